"""Does the likelihood of an unnormalised model train faster than contrast with noise?

The model exp(-(x - t)^2 / 2) / Z learns the mean R of N(R, 1) from t = 0. Population
gradients are integrals: MECO's is then the likelihood's, whatever the noise, and noise
contrastive estimation (NCE) has noise N(0, 1). With samples both have noise N(0, R^2).

Source: Learning Unnormalized Statistical Models via Compositional Optimization,
arXiv:2306.07485.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from experiments.common.references import stated
from logitlab import losses, report, weights
from logitlab.train import Compute, Study

LIKELIHOOD, NCE = "likelihood", "nce"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    distances, sampled = tuple(config.distances), config.sampled
    cap, after = config.population.cap, sorted(sampled.after)
    count = functools.cache(iterations)  # nothing random: once for all seeds
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, key, config, count))
            for name in (LIKELIHOOD, NCE)
        },
        figures={
            "iterations": report.trends(
                {R: f"iterations/{R:g}" for R in distances},
                label=f"iterations to within {config.population.within:g}",
                across="distance R between noise and data",
                log=True,
                bound=(cap, f"where counting ends ({cap})"),
            ),
            "error": report.trends(
                {n: f"error/{n}" for n in after},
                label="mean absolute error",
                across=f"steps, noise and data {sampled.distance:g} apart",
                log=True,
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels={LIKELIHOOD: "MECO (likelihood)", NCE: "NCE"},
        title="Likelihood and noise contrast for an unnormalised model",
        summary=(
            "The mean of a Gaussian, by gradient descent with steps of "
            f"{config.population.step:g}. Population gradients are exact, so that all "
            f"seeds count the same iterations; counting ends at {cap}, and a method "
            f"that has not arrived has that number. With samples: batches of "
            f"{sampled.batch}, {sampled.chains} chains for each seed, constant steps."
        ),
        captions={
            "iterations": "Population gradients: iterations against the distance.",
            "error": "Sampled gradients: the error against the steps.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: the counts are exact")
    if not config.distances or min(config.distances) <= 0:
        raise ValueError(
            f"config.distances is {tuple(config.distances)}, expected numbers above 0"
        )
    for key, low, high in (
        ("population.step", 0, 1),
        ("population.within", 0, min(config.distances)),
        ("sampled.gamma", 0, 1),
        ("sampled.step", 0, 1),
    ):
        section, entry = key.split(".")
        value = config[section][entry]
        if not 0 < value <= high:
            raise ValueError(f"config.{key} is {value}, expected ({low}, {high:g}]")
    for key in ("sampled.batch", "sampled.chains", "population.cap"):
        section, entry = key.split(".")
        if config[section][entry] < 1:
            raise ValueError(f"config.{key} is {config[section][entry]}, expected 1")
    if not config.sampled.after or min(config.sampled.after) < 1:
        raise ValueError(
            f"config.sampled.after is {tuple(config.sampled.after)}, expected steps"
        )


def _values(method, key, config, count):
    population, sampled = dict(config.population), config.sampled
    counts = {
        f"iterations/{R:g}": count(method, R, **population) for R in config.distances
    }
    error = jax.jit(lambda key: _sampled_error(method, key, sampled))(key)
    return counts | {f"error/{n}": error[n - 1] for n in sampled.after}


def iterations(
    method: str,
    distance: float,
    *,
    step: float,
    within: float,
    cap: int,
    points: int,
    beyond: float,
) -> float:
    """Updates until the mean is near enough, or ``cap``."""
    grid = jnp.linspace(-beyond, distance + beyond, points)
    width = grid[-1] - grid[0]
    log_noise = norm.logpdf(grid)
    noise, data = jnp.exp(log_noise), jnp.exp(norm.logpdf(grid, distance))

    def f(mean):
        return -jnp.square(grid - mean) / 2

    def likelihood(params):
        # Noise with its weight q in the integral is even noise on the grid.
        even = jnp.full_like(grid, -jnp.log(width))
        log_u = weights.meco_update(None, f(params[0]), even, gamma=1.0)
        return losses.meco_loss(width * data * f(params[0]), f(params[0]), even, log_u)

    def contrast(params):
        # NCE tells data from noise by logistic regression: `losses.nce_loss`, with the
        # two means as integrals over the grid.
        margin = f(params[0]) - params[1] - log_noise
        of_data = losses.sigmoid_cross_entropy(margin, jnp.ones_like(margin))
        of_noise = losses.sigmoid_cross_entropy(margin, jnp.zeros_like(margin))
        return width * jnp.mean(data * of_data + noise * of_noise)

    slope = jax.grad({LIKELIHOOD: likelihood, NCE: contrast}[method])

    def far(state):
        params, count = state
        return (jnp.abs(params[0] - distance) >= within) & (count < cap)

    def update(state):
        params, count = state
        return params - step * slope(params), count + 1

    start = jnp.zeros(2), jnp.zeros((), int)
    run = jax.jit(lambda start: jax.lax.while_loop(far, update, start)[1])
    return float(run(start))


def _sampled_error(method, key, config):
    """Mean absolute error of all chains after each step."""
    scale = config.distance
    shape = config.chains, config.batch

    def log_q(x):
        return norm.logpdf(x, 0, scale)

    def f(mean, x):
        return -jnp.square(x - mean) / 2

    def meco(params, log_u, data, noise):
        log_u = weights.meco_update(
            log_u, f(params[0], noise), log_q(noise), gamma=config.gamma
        )

        def surrogate(params):
            return losses.meco_loss(
                f(params[0], data), f(params[0], noise), log_q(noise), log_u
            )

        return jax.grad(surrogate)(params), log_u

    def contrast(params, log_u, data, noise):
        def loss(params):
            return losses.nce_loss(
                f(params[0], data),
                f(params[0], noise),
                log_q(data),
                log_q(noise),
                log_z=params[1],
            )

        return jax.grad(loss)(params), log_u

    gradient = jax.vmap({LIKELIHOOD: meco, NCE: contrast}[method])

    def step(state, key):
        params, log_u = state
        data_key, noise_key = jax.random.split(key)
        data = config.distance + jax.random.normal(data_key, shape)
        noise = scale * jax.random.normal(noise_key, shape)
        grads, log_u = gradient(params, log_u, data, noise)
        params = params - config.step * grads
        return (params, log_u), jnp.abs(params[:, 0] - config.distance).mean()

    first_key, key = jax.random.split(key)
    noise = scale * jax.random.normal(first_key, shape)
    log_u = jax.vmap(
        lambda x: weights.meco_update(
            None, f(jnp.zeros(()), x), log_q(x), gamma=config.gamma
        )
    )(noise)
    keys = jax.random.split(key, max(config.after))
    return jax.lax.scan(step, (jnp.zeros((config.chains, 2)), log_u), keys)[1]


def closed_form(distance: float, *, step: float, within: float) -> int:
    """Iterations of the likelihood, whose error shrinks by ``1 - step`` in each."""
    count = np.log(distance / within) / -np.log1p(-step)
    return int(np.floor(count)) + 1  # the error has to be below, not at, the bound


def _claims(config):
    bounds, population, sampled = config.tolerances, config.population, config.sampled
    far = [d for d in config.distances if d >= bounds.never_from]
    early, late = min(sampled.after), max(sampled.after)
    if bounds.early_step in sampled.after:
        early = bounds.early_step

    def count(results, method, distance):
        return results[method].final(f"iterations/{distance:g}")

    def off(results):
        rule = dict(step=population.step, within=population.within)
        gaps = [
            np.abs(count(results, LIKELIHOOD, R) - closed_form(R, **rule))
            for R in config.distances
        ]
        return np.max(gaps, 0)

    def ratio(distance):
        return lambda r: count(r, NCE, distance) / count(r, LIKELIHOOD, distance)

    def error(results, method, step):
        return results[method].final(f"error/{step}")

    claims = [
        report.Claim(
            text="the likelihood's iterations grow like the distance's logarithm",
            reference="closed form, exactly; a favourable landscape (abstract)",
            ours=off,
            equals=0.0,
            unit="iterations off",
            needs=(LIKELIHOOD,),
        )
    ]
    claims += [
        report.Claim(
            text=f"NCE takes many times as many iterations at a distance of {R:g}",
            reference=stated("the likelihood converges faster (abstract)"),
            ours=ratio(R),
            at_least=least,
            unit="times",
            needs=(LIKELIHOOD, NCE),
        )
        for R, least in zip(bounds.slower_at, bounds.slower_by, strict=True)
        if R in config.distances
    ]
    if far:
        claims.append(
            report.Claim(
                text=(
                    f"NCE does not arrive in {population.cap} iterations from a "
                    f"distance of {min(far):g} on"
                ),
                reference=stated("a flat landscape (abstract)"),
                ours=lambda r: np.min([count(r, NCE, R) for R in far], 0),
                at_least=float(population.cap),
                format="g",
                needs=(NCE,),
            )
        )
    return claims + [
        report.Claim(
            text=f"from samples, MECO is near after {early} steps",
            reference=stated("converges faster (abstract)"),
            ours=lambda r: error(r, LIKELIHOOD, early),
            at_most=bounds.early_error,
            needs=(LIKELIHOOD,),
        ),
        report.Claim(
            text="and NCE's error is then several times as large",
            reference=stated("converges faster (abstract)"),
            ours=lambda r: error(r, NCE, early) / error(r, LIKELIHOOD, early),
            at_least=bounds.early_ratio,
            unit="times",
            needs=(LIKELIHOOD, NCE),
        ),
        report.Claim(
            text="with constant steps MECO ends farther from the mean than NCE",
            ours=lambda r: error(r, LIKELIHOOD, late) / error(r, NCE, late),
            at_least=bounds.floor_ratio,
            unit="times NCE's error",
            needs=(LIKELIHOOD, NCE),
            question=True,
        ),
    ]
