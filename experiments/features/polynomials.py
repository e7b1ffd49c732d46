"""Does a network of three layers find the polynomial inside of another one?

The target is a polynomial of degree 3 of a quadratic form without a trace. Two layers
of random features, fitted by ridge regression, see of it what is quadratic in the
inputs, which is in proportion to the form itself; one-dimensional features of that,
fitted to fresh examples, make the outer polynomial of it. Ridge regression on the
random features alone is the kernel method that cannot.

The two stages are inferred from the abstract.

Source: Learning Hierarchical Polynomials with Three-Layer Neural Networks, Wang et al.
2023, arXiv:2311.13774.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import stated
from logitlab import report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

OUTER = {  # of a variable with mean 0 and variance 1
    "rising": (lambda t: t + t**3 / 3, "t + t³/3"),
    "turning": (lambda t: t**3 - t, "t³ - t"),
}
LAYERS, KERNEL = "three_layers", "kernel"
LABELS = {LAYERS: "three layers", KERNEL: "kernel ridge"}
RIDGES = np.logspace(-6, 1, 15)  # over the largest eigenvalue


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    arms = {
        arm_name(method, outer): (method, outer)
        for outer in config.outers
        for method in LABELS
    }
    measured = {
        outer: once_per_key(functools.partial(measure, outer=outer, config=config))
        for outer in config.outers
    }
    last = config.dimensions[-1]

    def against_examples(metric, label, methods, **look):
        return report.trends(
            {n: f"{metric}/{last}/{n}" for n in config.multiples},
            arms=[name for name, (method, _) in arms.items() if method in methods],
            label=label,
            across=f"examples over {last}²",
            log_across=True,
            **look,
        )

    return Study(
        arms={
            name: Compute(
                lambda key, method=method, outer=outer: measured[outer](key)[method]
            )
            for name, (method, outer) in arms.items()
        },
        figures={
            "error": against_examples(
                "error", "test error over the target's variance", LABELS, log=True
            ),
            "correlation": against_examples(
                "correlation", "correlation of the feature with the form", [LAYERS]
            ),
        },
        claims=_claims(config),
        labels={
            name: f"{LABELS[method]}, {OUTER[outer][1]}"
            for name, (method, outer) in arms.items()
        },
        title="Polynomials of polynomials, in three layers",
        summary=(
            "Standard normal inputs of "
            f"{', '.join(map(str, config.dimensions))} dimensions, whose squares are "
            "summed with alternating signs; the target is a polynomial of that, "
            f"{' or '.join(OUTER[outer][1] for outer in config.outers)}. "
            f"{config.width} random quadratic features are fitted by ridge regression "
            f"to {config.share:.0%} of the examples, and {config.outer_width} "
            "features of what came out to the others; kernel ridge regression on the "
            "quadratic features has all of them. Every ridge is the best for leaving "
            "one example out."
        ),
        captions={
            "error": "Mean squared error on new examples.",
            "correlation": "What the first stage has found.",
        },
    )


def arm_name(method: str, outer: str) -> str:
    """Name of the arm of a method and an outer polynomial."""
    return f"{method}_{outer}"


def _check(config):
    for outer in config.outers:
        check_name(outer, tuple(OUTER), "config.outers")
    for name, least in (("dimensions", 2), ("multiples", 1), ("outers", "")):
        if not config[name] or min(config[name]) < least:
            raise ValueError(
                f"config.{name} is {tuple(config[name])}, expected at least one, of at "
                f"least {least}"
            )
    if any(d % 2 for d in config.dimensions):
        raise ValueError(
            f"config.dimensions is {tuple(config.dimensions)}, expected even numbers, "
            "as signs alternate"
        )
    if not 0 < config.share < 1:
        raise ValueError(f"config.share is {config.share}, expected in (0, 1)")


def form(x: jax.Array) -> jax.Array:
    """The quadratic form of standard normal rows, with mean 0 and variance 1."""
    dimension = x.shape[-1]
    signs = jnp.where(jnp.arange(dimension) % 2 == 0, 1.0, -1.0)
    return (x**2 - 1) @ signs / jnp.sqrt(2.0 * dimension)


def ridge_fit(features: jax.Array, y: jax.Array) -> jax.Array:
    """Weights and offset of the ridge with the least error of one example left out.

    Shapes: features [N, M], y [N] -> [M], []
    """
    middle = features.mean(0, keepdims=True)
    a, z = features - middle, y - y.mean()
    eigenvalues, vectors = jnp.linalg.eigh(a.T @ a)
    eigenvalues = jnp.maximum(eigenvalues, 0)
    rotated, inner = a @ vectors, vectors.T @ (a.T @ z)

    def error(ridge):
        shrunk = 1 / (eigenvalues + ridge)
        leverage = rotated**2 @ shrunk + 1 / len(y)
        left_out = (z - rotated @ (shrunk * inner)) / jnp.maximum(1 - leverage, 1e-6)
        return jnp.mean(left_out**2)

    ridges = jnp.asarray(RIDGES, a.dtype) * eigenvalues[-1]
    ridge = ridges[jnp.argmin(jax.lax.map(error, ridges))]
    weights = vectors @ (inner / (eigenvalues + ridge))
    return weights, y.mean() - (middle @ weights)[0]


def measure(key: jax.Array, outer: str, config) -> dict:
    """What both methods make of the same examples, by method."""
    values = {method: {} for method in LABELS}
    for dimension in config.dimensions:
        for multiple in config.multiples:
            found = _fitted(
                outer,
                (dimension, multiple * dimension**2, config.test),
                (config.width, config.outer_width, config.share),
                key,
            )
            for method, numbers in found.items():
                values[method] |= {
                    f"{name}/{dimension}/{multiple}": number
                    for name, number in numbers.items()
                }
    return values


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fitted(outer, sizes, layers, key):
    (dimension, examples, test), (width, outer_width, share) = sizes, layers
    keys = jax.random.split(key, 5)
    rows = jax.random.normal(keys[0], (examples + test, dimension))
    directions = jax.random.normal(keys[1], (dimension, width))
    directions /= jnp.linalg.norm(directions, axis=0, keepdims=True)
    offsets = jax.random.normal(keys[2], (1, width))
    inside = form(rows)
    target = OUTER[outer][0](inside)
    features = (rows @ directions + offsets) ** 2

    def fitted(features, part):
        weights, offset = ridge_fit(features[part], target[part])
        return features @ weights + offset

    def error(learned):
        wrong = jnp.mean((learned[examples:] - target[examples:]) ** 2)
        return wrong / target[examples:].var()

    cut = round(share * examples)
    first = fitted(features, slice(cut))
    t = (first - first[:cut].mean())[:, None] / first[:cut].std()
    signs = jax.random.rademacher(keys[3], (1, outer_width), t.dtype)
    kinks = jax.random.uniform(keys[4], signs.shape, minval=-4, maxval=4)
    second = fitted(jax.nn.relu(signs * t + kinks), slice(cut, examples))
    found = jnp.corrcoef(first[examples:], inside[examples:])[0, 1]
    return {
        LAYERS: {"correlation": found, "error": error(second)},
        KERNEL: {"error": error(fitted(features, slice(examples)))},
    }


def _claims(config):
    bounds, claims = config.tolerances, []
    source = stated("three layers learn such targets with fewer examples than kernels")
    few, many = config.multiples[0], config.multiples[-1]

    def least_correlation(results, arm, multiple):
        return np.min(
            [results[arm].final(f"correlation/{d}/{multiple}")
             for d in config.dimensions], 0
        )  # fmt: skip

    def largest_ratio(results, arms, multiple):
        return np.max(
            [results[arms[0]].final(f"error/{d}/{multiple}")
             / results[arms[1]].final(f"error/{d}/{multiple}")
             for d in config.dimensions], 0
        )  # fmt: skip

    for outer in config.outers:
        pair = arm_name(LAYERS, outer), arm_name(KERNEL, outer)
        words = OUTER[outer][1]
        claims += [
            report.Claim(
                text=f"{few} d² examples: the first stage finds the form in {words}",
                reference=source,
                ours=functools.partial(least_correlation, arm=pair[0], multiple=few),
                above=bounds.correlation,
                over="mean",
                unit="correlation at the worst dimension",
                needs=pair[:1],
            ),
            *(
                report.Claim(
                    text=f"{n} d² examples: the error is far below a kernel's, {words}",
                    ours=functools.partial(largest_ratio, arms=pair, multiple=n),
                    at_most=bounds.ratio,
                    over="mean",
                    unit="of the kernel's error at the worst dimension",
                    needs=pair,
                    **kind,
                )
                for n, kind in (
                    (few, dict(reference=source)),
                    (many, dict(question=True)),
                )
            ),
        ]
    return claims
