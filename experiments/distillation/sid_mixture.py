"""Does score identity distillation with neural denoisers find all modes of a mixture?

The teacher is the exact denoiser of a mixture of Gaussians on a circle. The fake
denoiser is a small network, which first learns to denoise data and then follows the
generator; the generator starts as a copy of it and sees no data again. It makes samples
in one step or in several, of which one drawn at random is matched to the data.

Source: Score identity Distillation, Zhou et al. 2024, arXiv:2404.04057; in few steps,
Zhou et al. 2025, arXiv:2505.12674.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from experiments.common.solvers import descended
from experiments.denoising import _mixtures as mixtures
from logitlab import losses, models, report
from logitlab.train import Compute, Study

FLOOR = "data"


def arm_name(steps: int) -> str:
    """Name of the arm of a generator of some steps."""
    return f"steps_{steps}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    arms = {
        arm_name(steps): Compute(
            all_seeds_at_once(config, functools.partial(values, config, steps))
        )
        for steps in config.generator_steps
    }
    arms[FLOOR] = Compute(all_seeds_at_once(config, functools.partial(_floor, config)))
    after = tuple(config.after)
    d = config.data
    return Study(
        arms=arms,
        figures={
            "distance": report.trends(
                {n: f"distance/{n}" for n in after},
                label="sliced Wasserstein distance",
                across="steps of the distillation",
                log=True,
                log_across=True,
            ),
            "modes": report.trends(
                {n: f"modes/{n}" for n in after},
                label=f"modes of {d.modes} that are there",
                across="steps of the distillation",
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels={
            arm_name(n): "one step" if n == 1 else f"{n} steps"
            for n in config.generator_steps
        }
        | {FLOOR: "a sample of the data"},
        title="Score identity distillation of a mixture",
        summary=(
            f"{d.modes} Gaussians of deviation {d.deviation:g} on a circle of radius "
            f"{d.radius:g}; networks of widths {tuple(config.widths)}, {after[-1]} "
            f"steps of Adam for either network on batches of {config.batch_size}, "
            f"alpha {config.alpha:g}, {config.seeds} seeds. A mode is there if it has "
            "a third of its share of the samples."
        ),
        captions={
            "distance": "Distance of the generator's samples from the data's.",
            "modes": "Modes that have a third of their share of the samples or more.",
        },
    )


def _check(config):
    after, steps = tuple(config.after), tuple(config.generator_steps)
    if not after or list(after) != sorted(set(after)) or after[0] < 1:
        raise ValueError(f"config.after is {after}, expected growing steps")
    if not steps or min(steps) < 1:
        raise ValueError(f"config.generator_steps is {steps}, expected 1 and more")
    if config.data.modes < 2 or config.data.deviation <= 0:
        raise ValueError(
            f"config.data has modes={config.data.modes} and deviation="
            f"{config.data.deviation}, expected at least 2 and above 0"
        )


def denoised(model, params, noisy, sigma, sigma_data):
    r"""A network's guess of what is behind the noise, preconditioned as in EDM.

    .. math:: c_{skip} x + c_{out} F(c_{in} x, \log \sigma / 4)

    Shapes: noisy [N, D], sigma [N] -> [N, D]
    """
    total = sigma**2 + sigma_data**2
    shown = jnp.concatenate(
        [noisy / jnp.sqrt(total)[:, None], jnp.log(sigma)[:, None] / 4], -1
    )
    out = model.apply({"params": params}, shown)
    scale = sigma * sigma_data / jnp.sqrt(total)
    return (sigma_data**2 / total)[:, None] * noisy + scale[:, None] * out


def exact(mixture, noisy, sigma):
    """The mean of the mixture's sample behind the noise, [N, D]."""
    return mixtures.clean_mean(noisy, mixture, jnp.ones(()), sigma**2)


def sliced_distance(key, a, b, directions=64):
    """Sliced Wasserstein distance, of order 2, of two samples of equal size [N, D]."""
    u = jax.random.normal(key, (a.shape[-1], directions))
    u /= jnp.linalg.norm(u, axis=0, keepdims=True)
    gap = jnp.sort(a @ u, 0) - jnp.sort(b @ u, 0)
    return jnp.sqrt((gap**2).mean())


def modes_there(samples, mixture):
    """How many modes have a third or more of their share of the samples nearest."""
    means = jnp.asarray(mixture.means, samples.dtype)
    apart = jnp.linalg.norm(samples[:, None] - means[None], axis=-1)
    near = apart.min(-1) < 3 * mixture.deviation
    counts = jnp.bincount(
        apart.argmin(-1), weights=near.astype(samples.dtype), length=len(means)
    )
    return (counts / len(samples) >= 1 / (3 * len(means))).sum()


def _mixture(config):
    return mixtures.circle(config.data.modes, config.data.radius, config.data.deviation)


def _log_normal(key, count):
    """EDM's noise levels for the training of a denoiser."""
    return jnp.exp(-1.2 + 1.2 * jax.random.normal(key, (count,)))


def values(config, steps, key):
    """Distance and modes of a generator of some steps, after some updates each."""
    mixture, count = _mixture(config), config.batch_size
    model = models.MLP(tuple(config.widths), 2, activation="silu")
    denoise = functools.partial(denoised, model, sigma_data=config.sigma_data)
    keys = jax.random.split(key, 6)

    def denoising(params, x, key):
        level, noise = jax.random.split(key)
        sigma = _log_normal(level, len(x))
        noisy = x + sigma[:, None] * jax.random.normal(noise, x.shape)
        guess = denoise(params, noisy, sigma)
        return losses.denoising_score_loss(
            x, guess, sigma, sigma_data=config.sigma_data
        ).mean()

    def of_data(params, key):
        draw, key = jax.random.split(key)
        return denoising(params, mixtures.draw(draw, mixture, count), key)

    def sampled(params, key, many, match):
        return models.few_step_sampler(
            lambda x, t: denoise(params, x, jnp.broadcast_to(t, (many,))),
            key,
            steps,
            shape=(many, 2),
            add_noise=lambda x, noise, t: x + t * noise,
            t_init=config.sigma_init,
            match=match,
        )

    def fake_loss(fake, generator, key):
        draw, key = jax.random.split(key)
        return denoising(fake, sampled(generator, draw, count, "uniform"), key)

    def generator_loss(generator, fake, key):
        draw, level, noise = jax.random.split(key, 3)
        x = sampled(generator, draw, count, "uniform")
        u = jax.random.uniform(level, (count,), maxval=config.largest_noise)
        sigma = models.edm_sigma(u)
        noisy = x + sigma[:, None] * jax.random.normal(noise, x.shape)
        teacher, guess = exact(mixture, noisy, sigma), denoise(fake, noisy, sigma)
        return losses.sid_generator_loss(x, teacher, guess, alpha=config.alpha).mean()

    def update(state, key):
        (fake, fake_inner), (generator, inner), average = state
        one, two = jax.random.split(key)
        change, fake_inner = fake_adam.update(
            jax.grad(fake_loss)(fake, generator, one), fake_inner
        )
        fake = optax.apply_updates(fake, change)
        change, inner = adam.update(
            jax.grad(generator_loss)(generator, fake, two), inner
        )
        generator = optax.apply_updates(generator, change)
        average = optax.incremental_update(generator, average, 1 - config.average)
        return ((fake, fake_inner), (generator, inner), average), None

    fake_adam = optax.adam(config.fake_rate, b1=0.0)
    adam = optax.adam(config.learning_rate, b1=0.0)
    start, _ = descended(
        jax.grad(of_data),
        model.init(keys[0], jnp.zeros((1, 3)))["params"],
        optax.adam(config.fake_rate),
        batches=jax.random.split(keys[1], config.pretrained),
    )
    state = (start, fake_adam.init(start)), (start, adam.init(start)), start
    data = mixtures.draw(keys[2], mixture, config.samples)
    numbers, before = {}, 0
    for n in config.after:
        batches = jax.random.split(jax.random.fold_in(keys[3], n), n - before)
        state, _ = jax.lax.scan(update, state, batches)
        samples = sampled(state[2], keys[4], config.samples, "final")
        numbers[f"distance/{n}"] = sliced_distance(keys[5], samples, data)
        numbers[f"modes/{n}"] = modes_there(samples, mixture)
        before = n
    return numbers


def _floor(config, key):
    """What another sample of the data has in the place of the generator's."""
    mixture, keys = _mixture(config), jax.random.split(key, 3)
    data, other = (mixtures.draw(k, mixture, config.samples) for k in keys[:2])
    distance = sliced_distance(keys[2], other, data)
    return {f"distance/{n}": distance for n in config.after}


def _claims(config):
    t, last = config.tolerances, config.after[-1]

    def found(steps):
        arm = arm_name(steps)
        return report.Claim(
            text="all modes are there, in "
            + ("one step" if steps == 1 else f"{steps} steps"),
            reference=stated("the generator matches the data"),
            ours=lambda r: r[arm].final(f"modes/{last}") * 1.0,
            at_least=float(config.data.modes),
            over="median",
            unit=f"of {config.data.modes} modes",
            needs=(arm,),
        )

    claims = [found(steps) for steps in config.generator_steps]
    few = max(config.generator_steps)
    if 1 in config.generator_steps and few > 1:
        one, more = arm_name(1), arm_name(few)
        claims.append(
            report.Claim(
                text=f"{few} steps are nearer to the data than one",
                reference=stated("few steps are better than one"),
                ours=lambda r: (
                    r[one].final(f"distance/{last}") - r[more].final(f"distance/{last}")
                ),
                at_least=t.nearer,
                over="mean",
                unit="nearer",
                needs=(one, more),
            )
        )
    return claims
