"""Does score identity distillation find the data of a denoiser, and for which alpha?

The pixels of a sample are independent draws from a Gaussian, whose denoiser is known,
and the generator makes each by a z + b from a standard normal z. Its own denoiser, the
fake one, is known as well: each step takes the best there is for the present generator
and freezes it. The loss divides by a mean over a sample's pixels, so that their number
matters: with a single one, the weight of a pixel depends on the pixel itself.

Source: Score identity Distillation, Zhou et al. 2024, arXiv:2404.04057; in few steps,
Zhou et al. 2025, arXiv:2505.12674. ``sid_mixture`` has neural denoisers, and more steps
than one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.keys import all_seeds_at_once
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import losses, models, report
from logitlab.train import Compute, Study

IDENTITY = "identity"
PROTOTYPE = {
    0.0: "(0.600, 1.500) by step 1000",
    0.5: "(0.600, 1.500) by step 2000",
    1.0: "(0.600, 1.500) by step 4000",
    1.2: "scale 3.3 after 4000 steps",
    2.0: "scale 20 after 4000 steps",
}


def arm_name(alpha: float, pixels: int) -> str:
    """Name of the arm of a loss's alpha and a number of pixels."""
    return f"alpha_{alpha:g}_{pixels}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    after = tuple(config.after)
    cells = [(alpha, n) for n in config.pixels for alpha in config.alphas]
    arms = {
        arm_name(alpha, n): Compute(
            all_seeds_at_once(config, functools.partial(_values, config, alpha, n))
        )
        for alpha, n in cells
    }
    arms[IDENTITY] = Compute(lambda key: _identity(config, key))
    return Study(
        arms=arms,
        figures={f"scale_{n}": _scale(config, n) for n in config.pixels},
        claims=_claims(config),
        labels={
            arm_name(alpha, n): f"α = {alpha:g}, {_pixels(n)}" for alpha, n in cells
        },
        title="Score identity distillation of a Gaussian",
        summary=(
            f"Data N({config.data.mean:g}, {config.data.deviation:g}²), exact "
            f"denoisers, {after[-1]} steps of Adam on batches of {config.batch_size}, "
            f"from a = {config.start[0]:g} and b = {config.start[1]:g}."
        ),
        captions={
            f"scale_{n}": f"Deviation of the generator against steps, {_pixels(n)}."
            for n in config.pixels
        },
    )


def _pixels(n):
    return "1 pixel" if n == 1 else f"{n} pixels"


def _scale(config, pixels):
    """A line for each alpha, in the same colours whatever the pixels."""
    draw = report.trends(
        {n: f"scale/{n}" for n in config.after},
        label="generator's deviation |a|",
        across="step",
        log=pixels == 1,  # where it diverges
        log_across=True,
        bound=(config.data.deviation, "the data's"),
    )
    names = [arm_name(alpha, pixels) for alpha in config.alphas]
    return lambda results: draw({n: results[n] for n in names if n in results})


def _check(config):
    after = tuple(config.after)
    if not after or list(after) != sorted(set(after)) or after[0] < 1:
        raise ValueError(f"config.after is {after}, expected growing steps")
    if not config.pixels or min(config.pixels) < 1:
        raise ValueError(
            f"config.pixels is {tuple(config.pixels)}, expected 1 and more"
        )
    if config.data.deviation <= 0:
        raise ValueError(
            f"config.data.deviation is {config.data.deviation}, expected above 0"
        )
    if not 0 < config.noise.largest <= 1:
        raise ValueError(
            f"config.noise.largest is {config.noise.largest}, expected in (0, 1]"
        )


def denoise(noisy: jax.Array, sigma: jax.Array, deviation, mean) -> jax.Array:
    r"""The best guess of a Gaussian's sample behind noise.

    .. math:: \frac{s^2 x + \sigma^2 m}{s^2 + \sigma^2}
    """
    variance = deviation**2
    return (variance * noisy + sigma**2 * mean) / (variance + sigma**2)


def _draw(key, params, data, noise, shape):
    """Samples of the generator, and what both denoisers make of them under noise.

    A noise level belongs to a sample. Shapes: [samples, pixels] each.
    """
    keys = jax.random.split(key, 3)
    a, b = params
    x = a * jax.random.normal(keys[0], shape) + b
    u = jax.random.uniform(keys[1], (shape[0], 1), maxval=noise["largest"])
    sigma = models.edm_sigma(
        u,
        sigma_min=noise["sigma_min"],
        sigma_max=noise["sigma_max"],
        rho=noise["rho"],
    )
    noisy = x + sigma * jax.random.normal(keys[2], shape)
    teacher = denoise(noisy, sigma, data["deviation"], data["mean"])
    fake = denoise(noisy, sigma, *jax.lax.stop_gradient((a, b)))
    return x, teacher, fake


@functools.partial(jax.jit, static_argnames=("steps", "shape", "learning_rate"))
def train(key, alpha, data, noise, start, *, steps, shape, learning_rate):
    """Deviation and mean of the generator after each step, [steps, 2]."""

    def loss(params, key):
        x, teacher, fake = _draw(key, params, data, noise, shape)
        return losses.sid_generator_loss(x, teacher, fake, alpha=alpha).mean()

    _, path = descended(
        jax.grad(loss),
        start,
        optax.adam(learning_rate, b1=0.0),
        batches=jax.random.split(key, steps),
        measure=lambda params: jnp.stack([jnp.abs(params[0]), params[1]]),
    )
    return path[1:]


def _values(config, alpha, pixels, key):
    data = config.data
    path = train(
        key,
        jnp.asarray(alpha),
        dict(data),
        dict(config.noise),
        tuple(jnp.array(value) for value in config.start),
        steps=config.after[-1],
        shape=(config.batch_size, pixels),
        learning_rate=config.learning_rate,
    )
    truth = jnp.array([data.deviation, data.mean])
    off = jnp.abs(path / truth[None] - 1).max(1)
    near = off <= config.tolerances.arrived
    arrived = jnp.where(near.any(), jnp.argmax(near) + 1.0, jnp.inf)
    values = {"off": off[-1], "arrived": arrived}
    for n in config.after:
        values[f"scale/{n}"], values[f"mean/{n}"] = path[n - 1]
    return values


def _identity(config, key):
    """What the best fake denoiser brings to 0, over what it is measured against."""
    params = tuple(jnp.array(value) for value in config.start)
    x, teacher, fake = jax.jit(_draw, static_argnums=4)(
        key, params, dict(config.data), dict(config.noise), (config.identity_draws, 1)
    )
    gap = teacher - fake
    return {"identity": jnp.mean(gap * (fake - x)) / jnp.mean(gap**2)}


def _claims(config):
    bounds, alphas = config.tolerances, sorted(config.alphas)
    finds = [alpha for alpha in alphas if alpha <= 1]
    many = max(config.pixels)

    claims = [
        report.Claim(
            text="the fake denoiser's error is uncorrelated with the gap of the two",
            reference=f"identity: 0; {prototype('0.001 against 1.77')}",
            ours=lambda r: r[IDENTITY].final("identity"),
            equals=0.0,
            within=bounds.identity,
            unit="of the squared gap",
            needs=(IDENTITY,),
        )
    ]
    if 1 in config.pixels:
        claims += [_finds(config, alpha, 1, reference=_known(alpha)) for alpha in finds]
        claims += [
            report.Claim(
                text=f"it is there sooner with α = {less:g} than with α = {more:g}",
                reference=_known(less, more),
                ours=_later(arm_name(more, 1), arm_name(less, 1)),
                at_least=1.0,
                over="share",
                share=bounds.sooner,
                unit="steps sooner",
                format=".0f",
                needs=(arm_name(less, 1), arm_name(more, 1)),
            )
            for less, more in zip(finds, finds[1:], strict=False)
        ]
        claims += [
            report.Claim(
                text=f"it spreads beyond the data, α = {alpha:g}, 1 pixel",
                reference=_known(alpha),
                ours=lambda r, alpha=alpha: (
                    r[arm_name(alpha, 1)].final(f"scale/{config.after[-1]}")
                    / config.data.deviation
                ),
                at_least=bounds.spreads,
                over="median",
                unit="times the data's deviation",
                needs=(arm_name(alpha, 1),),
            )
            for alpha in alphas
            if alpha > 1
        ]
    if many > 1:
        claims += [_finds(config, alpha, many, question=True) for alpha in alphas]
    return claims


def _later(late, early):
    """How many steps; infinite if the late one never arrives, 0 if neither does."""

    def ours(results):
        last, first = (results[name].final("arrived") for name in (late, early))
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(last) & np.isinf(first), 0.0, last - first)

    return ours


def _known(*alphas):
    found = ", ".join(PROTOTYPE[alpha] for alpha in alphas if alpha in PROTOTYPE)
    return prototype(found) if found else stated("α up to 1 converges")


def _finds(config, alpha, pixels, **source):
    name = arm_name(alpha, pixels)
    return report.Claim(
        text=f"the generator finds the data, α = {alpha:g}, {_pixels(pixels)}",
        ours=lambda r: r[name].final("off"),
        at_most=config.tolerances.arrived,
        over="median",
        format=".2%",
        unit="off",
        needs=(name,),
        **source,
    )
