"""How much has a model to know beforehand to reach an error?

The inductive bias that an error needs is the surprise, in nats, of a random hypothesis
that fits the training data and errs no more on others. A Gaussian process gives random
functions that fit inputs of more and more dimensions, and on digits these are compared
with networks trained from random starts.

Source: Towards Exact Computation of Inductive Bias, Boopathy et al. 2024,
arXiv:2406.15941.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.keys import once_per_key
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import estimators, models, report
from logitlab.train import Compute, Study

NETWORK, KERNEL = "network", "kernel"
LABELS = {NETWORK: "random networks", KERNEL: "random functions of a Gaussian process"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    laws = once_per_key(lambda key: laws_by_dimension(key, config))
    digits = once_per_key(lambda key: digit_errors(key, config))
    levels = {f"error_{error:g}": error for error in config.errors}
    return Study(
        arms={
            name: Compute(lambda key, error=error: _needed(laws(key), error))
            for name, error in levels.items()
        }
        | {
            name: Compute(lambda key, name=name: _space(name, digits(key), config))
            for name in LABELS
        },
        figures={
            "dimension": report.trends(
                {d: f"bias/{d}" for d in config.dimensions},
                arms=list(levels),
                label="inductive bias (nats)",
                across="dimension of the inputs",
            ),
            "digits": report.trends(
                {m: f"times/{m:g}" for m in config.multiples},
                arms=list(LABELS),
                label="inductive bias (nats)",
                across="error, over the median of the networks",
                log_across=True,
            ),
        },
        claims=_claims(config, levels),
        labels=LABELS | {name: f"error {error:g}" for name, error in levels.items()},
        title="The inductive bias that an error needs",
        summary=(
            f"Functions of a Gaussian process, kernel exp(-d² / 2), through "
            f"{config.train} values of sin(2 x₁) at normal inputs, tested at "
            f"{config.test} others; and on digits, {config.digits.train} to fit and "
            f"{config.digits.test} to test, the same kernel against networks with "
            f"{config.digits.width} hidden units after {config.digits.steps} steps of "
            "Adam on one-hot targets. Errors are mean squares; a scaled non-central "
            f"chi-squared law is fitted to those of {config.samples} functions or of "
            f"{config.digits.networks} networks."
        ),
        captions={
            "dimension": "More dimensions leave more functions that fit.",
            "digits": "What the law of each space's errors says of a random member.",
        },
    )


def _check(config):
    dimensions = tuple(config.dimensions)
    if len(dimensions) < 2 or sorted({*dimensions, 0}) != [0, *dimensions]:
        raise ValueError(
            f"config.dimensions is {dimensions}, expected at least two numbers above "
            "0, in increasing order"
        )
    if 1.0 not in config.multiples:
        raise ValueError(
            f"config.multiples is {tuple(config.multiples)}, expected 1 among them"
        )
    datasets.check_train(config.digits.train + config.digits.test)
    for name, many in (
        ("samples", config.samples),
        ("digits.networks", config.digits.networks),
    ):
        if many < 2:
            raise ValueError(f"config.{name} is {many}, expected at least 2")


def laws_by_dimension(key: jax.Array, config) -> dict:
    """The fitted law of errors for each dimension of the inputs."""
    sizes = config.train, config.test, config.samples
    return {
        d: estimators.fit_scaled_ncx2(_synthetic(jax.random.fold_in(key, d), d, sizes))
        for d in config.dimensions
    }


@functools.partial(jax.jit, static_argnums=(1, 2))
def _synthetic(key, dimension, sizes):
    train, test, samples = sizes
    input_key, draw_key = jax.random.split(key)
    x = jax.random.normal(input_key, (train + test, dimension))
    y = jnp.sin(2 * x[:, :1])
    return estimators.gp_posterior_errors(
        draw_key, x[:train], y[:train], x[train:], y[train:], samples=samples
    )


def digit_errors(key: jax.Array, config) -> dict:
    """Errors of random members of both spaces on the same digits, and on those fitted.

    Networks come first: their median is the error that both are asked for.
    """
    digits = config.digits
    rows_key, network_key, kernel_key = jax.random.split(key, 3)
    x, y = datasets.images()
    parts = datasets.divide(rows_key, x, jax.nn.one_hot(y, 10), digits.train)
    parts = parts._replace(
        test_x=parts.test_x[: digits.test], test_y=parts.test_y[: digits.test]
    )
    keys = jax.random.split(network_key, digits.networks)
    fitted, errors = network_errors(
        parts, keys, digits.learning_rate, digits.width, digits.steps
    )
    random = estimators.gp_posterior_errors(kernel_key, *parts, samples=config.samples)
    return {NETWORK: errors, KERNEL: random, "fitted": fitted}


@functools.partial(jax.jit, static_argnums=(3, 4))
def network_errors(parts, keys, learning_rate, width, steps) -> tuple:
    """Mean squared errors of networks from random starts, on both parts."""
    model = models.MLP(widths=(width,), classes=parts.y.shape[1])

    def error(params, x, y):
        return jnp.mean((model.apply(params, x) - y) ** 2)

    def one(key):
        start = model.init(key, parts.x[:1])
        slope = jax.grad(lambda params: error(params, parts.x, parts.y))
        params, _ = descended(slope, start, optax.adam(learning_rate), steps=steps)
        return error(params, parts.x, parts.y), error(params, *parts[2:])

    return jax.lax.map(one, keys)


def _needed(laws, error):
    values = {}
    for d, law in laws.items():
        values[f"bias/{d}"] = nats(law, error)
        values[f"mean/{d}"] = law.scale * (law.df + law.nc)
    return values


def nats(law: estimators.ScaledNcx2, error: jax.Array) -> jax.Array:
    """Inductive bias that an error of at most this needs, by the law of errors."""
    return estimators.neg_log_ncx2_cdf(
        jnp.asarray(error, law.scale.dtype), law.df, law.nc, law.scale
    )


def _space(name, errors, config):
    law = estimators.fit_scaled_ncx2(errors[name])
    median = jnp.median(errors[NETWORK])
    values = {f"times/{m:g}": nats(law, m * median) for m in config.multiples}
    values |= {"median": jnp.median(errors[name]), "at_bound": law.at_bound}
    return values | ({"fitted": errors["fitted"].max()} if name == NETWORK else {})


def _claims(config, levels):
    bounds = config.tolerances

    def grows(name):
        def ours(results):
            arm = results[name]
            needed = [arm.final(f"bias/{d}") for d in config.dimensions]
            return np.diff(needed, axis=0).min(0)

        return ours

    claims = [
        report.Claim(
            text=f"an error of {error:g} needs more bias in each higher dimension",
            reference=stated("the bias grows with the dimension of the data"),
            ours=grows(name),
            above=0.0,
            unit="nats more, at least",
            needs=(name,),
        )
        for name, error in levels.items()
    ]
    return claims + [
        report.Claim(
            text="every network fits its digits",
            reference="what the definition asks of a hypothesis",
            ours=lambda r: r[NETWORK].final("fitted"),
            at_most=bounds.fitted,
            unit="mean squared error, the largest",
            needs=(NETWORK,),
        ),
        report.Claim(
            text="by the fitted law the networks' median error needs log 2 nats",
            reference="half of them err less",
            ours=lambda r: r[NETWORK].final("times/1"),
            equals=float(np.log(2)),
            within=bounds.median,
            unit="nats",
            needs=(NETWORK,),
        ),
        report.Claim(
            text="a Gaussian process needs more bias for that error than networks",
            reference=stated("kernel spaces need more bias than networks"),
            ours=report.ahead("times/1", KERNEL, NETWORK),
            above=0.0,
            unit="nats more",
            needs=(NETWORK, KERNEL),
        ),
    ]
