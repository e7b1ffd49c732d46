"""How far is a smoothed classifier certain, and what do soft probabilities add?

Copies of a digit with normal noise are classified by a network that was trained with
that noise, or without any. From their votes, or from means of soft probabilities, a
radius follows within which no change of the input changes the class. An arm of its own
counts how often such radii are too large, where the true one is known.

Source: Delattre et al. 2024, arXiv:2309.16883; Cohen et al. 2019, arXiv:1902.02918.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import ndtri

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import links, losses, metrics, models, report
from logitlab.train import Compute, Study

KNOWN = "known"
TRAINED = {"noisy": "trained with noise", "clean": "trained without"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    images = functools.cache(lambda: datasets.images(centered=False))
    cells = [(kind, sigma) for kind in TRAINED for sigma in config.sigmas]
    most = max(config.soft_draws)
    return Study(
        arms={
            arm_name(*cell): Compute(
                lambda key, cell=cell: _values(*cell, key, images(), config)
            )
            for cell in cells
        }
        | {KNOWN: Compute(functools.partial(_known, config))},
        figures={
            "radii": report.intervals(
                {
                    words: [arm_name(kind, sigma) for sigma in config.sigmas]
                    for kind, words in TRAINED.items()
                },
                [f"{sigma:g}" for sigma in config.sigmas],
                "radius/two_classes",
                label="mean certified radius",
                across="deviation of the noise",
            ),
            "draws": report.trends(
                {n: f"votes/{n}" for n in config.soft_draws}
                | {config.draws: "radius/two_classes"},
                arms=[arm_name(*cell) for cell in cells],
                label="mean certified radius",
                across="draws of the noise",
                log_across=True,
            ),
        },
        claims=_claims(config, most),
        labels={
            arm_name(kind, sigma): f"{TRAINED[kind]}, {sigma:g}"
            for kind, sigma in cells
        }
        | {KNOWN: "half-space"},
        title="Certified radii of a smoothed classifier",
        summary=(
            f"An MLP learns {config.train} digits for {config.steps} steps of Adam, "
            f"with noise or without; {config.images} others are certified at a level "
            f"of {config.alpha:g}. Votes are of {config.draws} draws; soft maps are "
            f"softmax and sparsemax at {len(config.temperatures)} temperatures each. "
            "An image whose certified class is wrong has the radius 0. The half-space "
            f"is certified {config.known.trials} times by {config.known.draws} draws "
            f"each, at a level of {config.known.alpha:g}."
        ),
        captions={
            "radii": "Radii by votes for two classes, over all images.",
            "draws": "The same, against the draws that votes are of.",
        },
        table=functools.partial(_table, most),
    )


def arm_name(kind: str, sigma: float) -> str:
    """Name of the arm of a training and a noise."""
    return f"{kind}_{sigma:g}"


def _check(config):
    datasets.check_train(config.train)
    if config.images > datasets.DIGITS - config.train:
        raise ValueError(
            f"config.images is {config.images}, expected at most "
            f"{datasets.DIGITS - config.train}, the images that are not trained on"
        )
    for name in ("sigmas", "temperatures", "soft_draws"):
        if not config[name] or min(config[name]) <= 0:
            raise ValueError(
                f"config.{name} is {tuple(config[name])}, expected positive numbers"
            )
    if len(config.tolerances.two) != len(config.sigmas):
        raise ValueError(
            f"config.tolerances.two is {tuple(config.tolerances.two)}, expected one "
            f"number for each of config.sigmas, {tuple(config.sigmas)}"
        )
    if config.draws % config.chunk:
        raise ValueError(
            f"config.draws is {config.draws}, expected a multiple of config.chunk, "
            f"{config.chunk}"
        )


def soft_maps(config):
    """Softmax and sparsemax at all temperatures."""
    grid = np.array(config.temperatures, "f4")
    return [(links.sparsemax, grid), (None, grid)]


def _values(kind, sigma, key, images, config):
    split_key, train_key, vote_key, *soft_keys = jax.random.split(
        key, 3 + 2 * len(config.soft_draws)
    )
    rows = datasets.divide(split_key, *images, config.train)
    x, y = rows.test_x[: config.images], rows.test_y[: config.images]
    logits = trained(
        train_key,
        rows.x,
        rows.y,
        jnp.float32(sigma if kind == "noisy" else 0),
        config.learning_rate,
        widths=tuple(config.widths),
        steps=config.steps,
        batch_size=config.batch_size,
    )
    draw = functools.partial(noisy_logits, tuple(config.widths), logits, x, sigma)
    counts = votes(draw, vote_key, config.draws, config.chunk)
    pilot = draw(jax.random.fold_in(vote_key, 0), config.selection_draws)
    one, two = vote_radii(pilot, counts, y, sigma, config.alpha)
    values = {
        "accuracy": (counts.argmax(-1) == y).mean(),
        "radius/one_class": one.mean(),
        "radius/two_classes": two.mean(),
    }
    pairs = zip(config.soft_draws, soft_keys[::2], soft_keys[1::2], strict=True)
    for n, here, other in pairs:
        values |= soft_gains(
            draw(here, n), draw(other, config.selection_draws), y, sigma, config, n
        )
    return values


@functools.partial(jax.jit, static_argnames=("widths", "steps", "batch_size"))
def trained(key, x, y, sigma, learning_rate, *, widths, steps, batch_size):
    """Parameters of a network that saw each batch with fresh noise."""
    model = models.MLP(widths=widths, classes=10)

    def slope(params, key):
        row_key, noise_key = jax.random.split(key)
        at = jax.random.randint(row_key, (batch_size,), 0, len(y))
        noisy = x[at] + sigma * jax.random.normal(noise_key, (batch_size, x.shape[1]))
        return jax.grad(
            lambda p: losses.cross_entropy(model.apply(p, noisy), y[at]).mean()
        )(params)

    keys = jax.random.split(key, steps)
    params, _ = descended(
        slope, model.init(key, x[:1]), optax.adam(learning_rate), batches=keys
    )
    return params


@functools.partial(jax.jit, static_argnums=(0, 5))
def noisy_logits(widths, params, x, sigma, key, draws):
    """Logits [draws, images, 10] of copies with normal noise."""
    noise = jax.random.normal(key, (draws, *x.shape))
    return models.MLP(widths=widths, classes=10).apply(params, x[None] + sigma * noise)


def votes(draw, key, draws, chunk):
    """How many draws have each class at the top, [images, 10]."""
    keys = jax.random.split(jax.random.fold_in(key, 1), draws // chunk)
    return sum(
        jax.nn.one_hot(draw(k, chunk).argmax(-1), 10, dtype=jnp.int32).sum(0)
        for k in keys
    )


def vote_radii(pilot, counts, y, sigma, alpha):
    """Radii of the class that the pilot's draws chose; 0 where it is wrong.

    Of one class, as Cohen et al. have it (the others get the rest), and of two.
    """
    top = jax.nn.one_hot(pilot.argmax(-1), 10).sum(0).argmax(-1)
    own = jax.nn.one_hot(top, 10, dtype=bool)
    draws = counts.sum(-1)
    of_top = jnp.where(own, counts, 0).sum(-1)
    share = metrics.clopper_pearson(of_top, draws, alpha=alpha, side="lower")
    each = dict(alpha=alpha / 10)
    low = metrics.clopper_pearson(of_top, draws, side="lower", **each)
    others = metrics.clopper_pearson(counts, draws[:, None], side="upper", **each)
    high = jnp.where(own, 0, others).max(-1)
    radii = sigma * ndtri(share), sigma / 2 * (ndtri(low) - ndtri(high))
    return [jnp.where((top == y) & (r > 0), r, 0) for r in radii]


def soft_gains(z, pilot, y, sigma, config, n):
    """Radii with and without soft maps, and to how many images these give more."""
    options = dict(sigma=sigma, alpha=config.alpha)
    found = {}
    for name, maps in (("soft", soft_maps(config)), ("votes", [])):
        ways = {
            "holdout": dict(selection_logits=pilot),
            "official": dict(selection="official"),
        }
        for way, more in ways.items():
            got = metrics.certify_lvm(z, maps=maps, **options, **more)
            found[name, way] = jnp.where(got.classes == y, got.radius, 0)
    more = found["soft", "official"] > found["votes", "official"] + 1e-6
    return {
        f"gained/{n}": more.mean(),
        f"soft/{n}": found["soft", "holdout"].mean(),
        f"votes/{n}": found["votes", "holdout"].mean(),
    }


def _known(config, key):
    """Shares of false certificates of a half-space, and the Lipschitz constants' error.

    The input is at a distance from the half-space that is the true radius, whatever the
    map; a certificate is false if its radius is larger, or its class the other one.
    """
    known, keys = config.known, jax.random.split(key)
    maps = soft_maps(config)

    def draws(key, n):
        noise = known.sigma * jax.random.normal(key, (n, known.trials))
        x = known.slope * (known.distance + noise)
        return jnp.stack([x, -x], -1)

    z = draws(keys[0], known.draws)
    values = {}
    for way in ("holdout", "bonferroni", "official"):
        other = draws(keys[1], known.draws) if way == "holdout" else None
        got = metrics.certify_lvm(
            z,
            sigma=known.sigma,
            alpha=known.alpha,
            maps=maps,
            selection=way,
            selection_logits=other,
        )
        false = (got.classes == 1) | (got.radius > known.distance)
        values[f"false/{way}"] = false.mean()
        values[f"certified/{way}"] = (got.classes >= 0).mean()
    values["lipschitz/error"] = lipschitz_error(config.lipschitz)
    return values


def lipschitz_error(slopes, sigma: float = 0.5, r: float = 1.0) -> float:
    """Largest relative error of ``smoothed_lipschitz`` against a quadrature.

    The steepest smoothed function of a slope is the linear one, clipped to an interval
    of length r; it is steepest in the middle.
    """
    x, h = np.linspace(-20 * sigma, 20 * sigma, 2_000_001, retstep=True)
    density = np.exp(-0.5 * (x / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    worst = 0.0
    for slope in slopes:
        f = np.clip(slope * x, -r / 2, r / 2)
        truth = np.sum(f * x * density) * h / sigma**2
        ours = float(metrics.smoothed_lipschitz(slope, r, sigma=sigma))
        worst = max(worst, abs(ours / truth - 1))
    return worst


def _claims(config, most):
    bounds, least = config.tolerances, min(config.soft_draws)
    two = {0.5: "0.552 against 0.435", 0.25: "0.560 against 0.547"}
    claims = [
        report.Claim(
            text=f"two bounds certify more than that of one class, noise {sigma:g}",
            reference=stated("a larger radius", two.get(sigma, "none")),
            ours=_wider("radius/two_classes", "radius/one_class", "noisy", sigma),
            at_least=bound,
            over="mean",
            unit="of the mean radius",
            needs=(arm_name("noisy", sigma),),
        )
        for sigma, bound in zip(config.sigmas, bounds.two, strict=True)
    ]
    sigma = max(config.sigmas)
    noisy, clean = arm_name("noisy", sigma), arm_name("clean", sigma)
    claims += [
        report.Claim(
            text="soft maps add next to nothing to a network trained with the noise",
            reference=prototype("a gain for 0 to 2 % of the images"),
            ours=lambda r: r[noisy].final(f"gained/{most}"),
            at_most=bounds.gained,
            over="mean",
            format=".1%",
            needs=(noisy,),
        ),
        ahead(
            "they add to more images of a network trained without noise",
            f"gained/{most}",
            clean,
            noisy,
            scale=100,
            reference=stated("gains for off-the-shelf classifiers"),
            above=0.0,
            over="mean",
            unit="points of the images",
        ),
        report.Claim(
            text="they still do when class and map are chosen on other draws",
            question=True,
            ours=lambda r: (
                r[clean].final(f"soft/{most}") - r[clean].final(f"votes/{most}")
            ),
            above=0.0,
            over="mean",
            unit="of the mean radius",
            needs=(clean,),
        ),
        report.Claim(
            text=f"and with as few as {least} draws",
            question=True,
            ours=lambda r: (
                r[clean].final(f"soft/{least}") - r[clean].final(f"votes/{least}")
            ),
            above=0.0,
            over="mean",
            unit="of the mean radius",
            needs=(clean,),
        ),
    ]
    level = f"{config.known.alpha:g}"
    for way, words in (
        ("holdout", "class and map are chosen on other draws"),
        ("bonferroni", "all maps and classes share the level"),
    ):
        claims.append(
            report.Claim(
                text=f"at most {level} of certificates are false where {words}",
                reference="theorem: the bounds hold together at that level",
                ours=lambda r, way=way: r[KNOWN].final(f"false/{way}"),
                at_most=config.known.alpha,
                format=".3f",
                needs=(KNOWN,),
            )
        )
    return [
        *claims,
        report.Claim(
            text=f"more than {level} are false where the largest of all radii is taken",
            question=True,
            ours=lambda r: r[KNOWN].final("false/official"),
            above=config.known.alpha,
            over="mean",
            format=".3f",
            needs=(KNOWN,),
        ),
        report.Claim(
            text="the Lipschitz constant is that of a quadrature",
            reference="closed form: the steepest function is linear and clipped",
            ours=lambda r: r[KNOWN].final("lipschitz/error"),
            at_most=bounds.lipschitz,
            format=".1e",
            needs=(KNOWN,),
        ),
    ]


def _wider(metric, other, kind, sigma):
    """How much larger one radius of an arm is than another."""
    arm = arm_name(kind, sigma)
    return lambda results: results[arm].final(metric) - results[arm].final(other)


def _table(draws, results):
    """One row for each network and noise."""
    columns = {
        "accuracy": "smoothed accuracy",
        "radius/one_class": "radius, one class",
        "radius/two_classes": "two classes",
        f"votes/{draws}": f"of {draws} draws",
        f"soft/{draws}": "with soft maps",
    }
    return [
        {"network": arm.label}
        | {words: f"{np.mean(arm.final(name)):.3f}" for name, words in columns.items()}
        for name, arm in results.items()
        if name != KNOWN
    ]
