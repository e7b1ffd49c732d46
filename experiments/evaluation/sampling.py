"""Where should one measure a function of which every value is dear?

Polynomials are fitted by weighted least squares to the values at n points. The points
are drawn independently, evenly or from the density that suits the space, or so that
they repel each other: by volume sampling, or as copies of a determinantal point
process. With few points it decides whether the fit is of any use.

Source: Nouy and Michel 2023, arXiv:2312.14057.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype
from logitlab import estimators, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

UNIFORM, OPTIMAL, VOLUME, REPEATED = "uniform", "optimal", "volume", "repeated"
LABELS = {
    UNIFORM: "independent, uniform",
    OPTIMAL: "independent, optimal density",
    VOLUME: "volume sampling",
    REPEATED: "repeated DPP",
}
IDENTITIES = "identities"
FUNCTIONS = {
    "exp": jnp.exp,
    "abs": jnp.abs,
    "runge": lambda x: 1 / (1 + 25 * x**2),
}
WORDS = {"exp": "exp x", "abs": "|x|", "runge": "1 / (1 + 25 x²)"}
POINTS, DIMENSION = 9, 3  # of the enumeration


def build(config) -> Study:
    """The study; nothing here draws, writes or prints."""
    _check(config)
    arms = {name: Compute(functools.partial(_values, config, name)) for name in LABELS}
    against = dict(across="points", log=True, log_across=True, arms=list(LABELS))
    return Study(
        arms=arms | {IDENTITIES: Compute(enumerated)},
        figures={
            "inverse": report.trends(
                {n: f"inverse/{n}" for n in config.points},
                label="norm of the inverse Gram matrix",
                **against,
            ),
            **{
                f"error_{name}": report.trends(
                    {n: f"error/{name}/{n}" for n in config.points},
                    label=f"error over the least, {WORDS[name]}",
                    **against,
                )
                for name in config.functions
            },
        },
        claims=_claims(config),
        labels=LABELS | {IDENTITIES: "volume sampling, enumerated"},
        title="Where to measure a function: independent points, or points that repel",
        summary=(
            f"Polynomials of degree below {config.dimension} on {config.grid} points "
            f"of [-1, 1]; {config.draws} draws of each number of points in each seed. "
            "Errors are L² distances from the function over the smallest that a "
            f"polynomial has, and what {config.quantile:.0%} of the draws stay below. "
            "Identities are sums over all subsets of a small set."
        ),
        captions={
            "inverse": "Medians over the draws. Small numbers mean a stable fit.",
            **{
                f"error_{name}": f"What {config.quantile:.0%} of the draws stay below."
                for name in config.functions
            },
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: bad fits need digits")
    for name in config.functions:
        check_name(name, tuple(FUNCTIONS), "config.functions")
    points = tuple(config.points)
    if sorted(set(points)) != list(points) or points[:1] != (config.dimension,):
        raise ValueError(
            f"config.points is {points}, expected increasing numbers from "
            f"config.dimension, {config.dimension}"
        )
    if config.grid < config.dimension:
        raise ValueError(
            f"config.grid is {config.grid}, expected at least {config.dimension}"
        )
    if config.draws < 1:
        raise ValueError(f"config.draws is {config.draws}, expected at least 1")


def legendre(grid: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of [-1, 1], and polynomials orthonormal in their uniform measure."""
    x = np.linspace(-1, 1, grid)
    q, _ = np.linalg.qr(np.polynomial.legendre.legvander(x, dimension - 1))
    return x, q * np.sqrt(grid)


def sampler(name: str, phi: jax.Array, n: int):
    """A function from a key to n places on the grid, and the weight of every place."""
    density = estimators.optimal_density(phi)
    many, dimension = phi.shape
    if name == UNIFORM:
        return lambda key: jax.random.randint(key, (n,), 0, many), jnp.ones(many)
    weights = 1 / density
    if name == OPTIMAL:
        logits = jnp.log(density)
        return lambda key: jax.random.categorical(key, logits, shape=(n,)), weights
    if name == VOLUME:
        return lambda key: estimators.sample_volume(key, phi, n), weights

    def repeated(key):
        keys = jax.random.split(key, n // dimension)
        draw = jax.vmap(estimators.sample_projection_dpp, (0, None))
        return draw(keys, phi).ravel()

    return repeated, weights


def _values(config, name, key):
    x, phi = legendre(config.grid, config.dimension)
    phi = jnp.asarray(phi)
    targets = jnp.stack([FUNCTIONS[f](jnp.asarray(x)) for f in config.functions], -1)
    values = {}
    for n in config.points:
        if name == REPEATED and n % config.dimension:
            continue
        keys = jax.random.split(jax.random.fold_in(key, n), config.draws)
        inverse, near, errors = measured(name, n, keys, phi, targets)
        values[f"inverse/{n}"] = jnp.median(inverse)
        values[f"near/{n}"] = near.mean()
        high = jnp.quantile(errors, config.quantile, axis=0)
        values |= {
            f"error/{f}/{n}": v for f, v in zip(config.functions, high, strict=True)
        }
    return values


@functools.partial(jax.jit, static_argnums=(0, 1))
def measured(name, n, keys, phi, targets) -> tuple:
    """Of each draw: norm of the inverse Gram matrix, if it is near, errors [K, F]."""
    draw, weights = sampler(name, phi, n)
    best = jnp.sqrt(jnp.mean((targets - phi @ (phi.T @ targets) / len(phi)) ** 2, 0))

    def one(key):
        rows = draw(key)
        p, w = phi[rows], weights[rows]
        fit = estimators.weighted_least_squares(p, w, targets[rows])
        gaps = targets - phi @ fit.coefficients
        smallest = jnp.linalg.svd(jnp.sqrt(w / n)[:, None] * p, compute_uv=False)[-1]
        return (
            1 / smallest**2,
            estimators.gram_deviation(p, w) <= 0.5,
            jnp.sqrt(jnp.mean(gaps**2, 0)) / best,
        )

    return jax.lax.map(one, keys, batch_size=20)


@jax.jit
def enumerated(key: jax.Array) -> dict:
    """How far volume sampling is from its identities, over all subsets of 9 points."""
    x_key, y_key = jax.random.split(key)
    x = jax.random.normal(x_key, (POINTS, DIMENSION))
    y = jax.random.normal(y_key, (POINTS,))
    full = estimators.weighted_least_squares(x, jnp.ones(POINTS), y).coefficients
    density = estimators.optimal_density(jnp.linalg.qr(x)[0] * POINTS**0.5)
    subsets = jnp.array([*itertools.product((0.0, 1.0), repeat=POINTS)])
    fit = jax.vmap(estimators.weighted_least_squares, (None, 0, None))
    fits = fit(x, subsets, y).coefficients  # a point of weight 0 is left out
    volume = jnp.linalg.det(jnp.einsum("sn,ni,nj->sij", subsets, x, x))
    sizes = jnp.arange(DIMENSION, POINTS + 1)
    chance = jnp.where(subsets.sum(1)[None] == sizes[:, None], volume[None], 0)
    chance = chance / chance.sum(1, keepdims=True)
    errors = jnp.sum((y[None] - fits @ x.T) ** 2, 1)
    ratio = chance[0] @ errors / jnp.sum((y - x @ full) ** 2)
    marginal = chance[0] @ subsets / DIMENSION * POINTS
    return {
        "bias": jnp.abs(chance @ fits - full[None]).max(),
        "ratio": jnp.abs(ratio - (DIMENSION + 1)),
        "marginal": jnp.abs(marginal - density).max(),
    }


def _claims(config):
    bounds = config.tolerances
    few = [n for n in config.points if n <= 2 * config.dimension]
    last = config.points[-1]
    metrics = {
        "inverse Gram matrices": ["inverse"],
        "errors": [f"error/{name}" for name in config.functions],
    }

    def least(kinds, behind, ahead):
        """The smallest quotient of two samplers over functions and numbers of points.

        A repeated DPP has multiples of its own number of points alone.
        """

        def ours(results):
            quotients = [
                results[behind].final(f"{kind}/{n}")
                / results[ahead].final(f"{kind}/{n}")
                for kind in kinds
                for n in few
                if f"{kind}/{n}" in results[ahead]
            ]
            return np.min(quotients, 0)

        return ours

    def merged(kinds):
        def ours(results):
            numbers = [
                [results[name].final(f"{kind}/{last}") for name in LABELS]
                for kind in kinds
            ]
            return np.max(np.max(numbers, 1) / np.min(numbers, 1), 0)

        return ours

    numbers = {
        "inverse Gram matrices": (
            "280, 18, 4.2 and 3.1 at 2 m points",
            "2.8, 1.8, 1.8 and 1.4",
        ),
        "errors": ("120, 10.4, 2.5 and 1.8 at 2 m points", "1.7, 1.2, 1.2 and 1.1"),
    }
    claims = [
        report.Claim(
            text=(
                f"up to {few[-1]} points, {what} of '{LABELS[ahead]}' are below those "
                f"of '{LABELS[behind]}'"
            ),
            reference=prototype(numbers[what][0]),
            ours=least(kinds, behind, ahead),
            above=1.0,
            unit="times as large, at least",
            needs=(behind, ahead),
        )
        for what, kinds in metrics.items()
        for behind, ahead in (
            (UNIFORM, OPTIMAL),
            (OPTIMAL, VOLUME),
            (OPTIMAL, REPEATED),
        )
    ]
    claims += [
        report.Claim(
            text=f"at {last} points {what} are alike",
            reference=prototype(numbers[what][1]),
            ours=merged(kinds),
            at_most=bounds.merged[place],
            unit="times as large, at most",
            needs=tuple(LABELS),
        )
        for place, (what, kinds) in enumerate(metrics.items())
    ]
    identities = {
        "bias": "the mean fit is the least-squares fit to all points, at every size",
        "ratio": f"of {DIMENSION} points the mean error is {DIMENSION + 1} times the "
        "least",
        "marginal": "every point is drawn from the optimal density",
    }
    return claims + [
        report.Claim(
            text=f"volume sampling: {text}",
            reference="identity: by enumeration",
            ours=lambda r, name=name: r[IDENTITIES].final(name),
            at_most=bounds.identity,
            unit="off at most",
            needs=(IDENTITIES,),
        )
        for name, text in identities.items()
    ]
