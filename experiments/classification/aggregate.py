"""How much of each example should a loss see when only means of labels are known?

A linear model learns from bags of examples that share the mean of their labels: from
the mean predictions, from every prediction, or from something between the two. And from
means with noise that keeps each label private, of bags of several sizes.

Source: Learning from Aggregate responses, Javanmard et al. 2024, arXiv:2401.11081.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import all_seeds_at_once
from experiments.common.references import prototype, stated
from logitlab import estimators, report, targets
from logitlab.train import Compute, Study

PROTOTYPE = {
    (60, 5): "4.93 at 0, 0.59 at 0.2, 0.70 at 1",
    (200, 5): "0.331 at 0, 0.231 at 0.05, 0.656 at 1",
    (400, 2): "0.154 at 0, 0.133 at 0.1, 0.305 at 1",
}


def build(config) -> Study:
    """The study; nothing here draws, fits, writes or prints."""
    _check(config)
    settings = [(bags, size) for bags, size, _ in config.settings]
    private, budgets = config.private, config.private.budgets
    errors = all_seeds_at_once(
        config, lambda key: private_errors(key, config), by="map"
    )
    arms = {
        bag_arm(*setting): Compute(
            all_seeds_at_once(
                config, lambda key, setting=setting: bag_errors(key, config, *setting)
            )
        )
        for setting in settings
    } | {
        budget_arm(epsilon): Compute(
            lambda key, i=i: {name: e[i] for name, e in errors(key).items()}
        )
        for i, epsilon in enumerate(budgets)
    }
    return Study(
        arms=arms,
        figures={
            "rho": _draw_rhos(config),
            "private": report.trends(
                {size: f"size/{size}" for size in private.sizes},
                label="squared error of the weights",
                across="examples in a bag",
                log=True,
                log_across=True,
            ),
        },
        claims=_claims(config, settings),
        labels={bag_arm(n, k): f"{n} bags of {k}" for n, k in settings}
        | {budget_arm(e): f"ε = {e:g}" for e in budgets},
        title="Learning from means of labels",
        summary=(
            f"{config.features} Gaussian features, unit weights, noise of deviation "
            f"{config.deviation:g}; {config.seeds} seeds, closed forms. Private means: "
            f"{private.samples} examples, labels clipped to ±{private.clip:g}, Laplace "
            f"noise, the loss with ρ = {private.rho:g}."
        ),
        captions={
            "rho": "Without privacy: error against the share of the instance loss.",
            "private": "With private means: error against the size of the bags.",
        },
    )


def bag_arm(bags: int, size: int) -> str:
    """Name of the arm of a number of bags and their size."""
    return f"bags_{bags}_{size}"


def budget_arm(epsilon: float) -> str:
    """Name of the arm of a privacy budget."""
    return f"epsilon_{epsilon:g}"


def _draw_rhos(config):
    """Errors against rho, whose ticks are so close at 0 that some have no label."""
    draw = report.trends(
        {rho: f"rho/{rho:g}" for rho in config.rhos},
        label="squared error of the weights",
        across="ρ: 0 bags alone, 1 instances alone",
        log=True,
    )

    def with_labels(results):
        figure = draw(results)
        shown = [rho for rho in config.rhos if rho == 0 or rho >= 0.1]
        figure.axes[0].set_xticks(shown, [f"{rho:g}" for rho in shown])
        return figure

    return with_labels


def _check(config):
    rhos, sizes = config.rhos, config.private.sizes
    if not {0.0, 1.0} <= {*rhos} or not all(0 <= rho <= 1 for rho in rhos):
        raise ValueError(f"config.rhos is {tuple(rhos)}, expected 0 to 1, and both")
    for *_, best in config.settings:
        if best not in rhos[1:-1]:
            raise ValueError(
                f"config.settings has a best rho of {best}, expected one of "
                f"config.rhos between 0 and 1, {tuple(rhos[1:-1])}"
            )
    if sizes[0] != 1 or any(config.private.samples % size for size in sizes):
        raise ValueError(
            f"config.private.sizes is {tuple(sizes)}, expected 1 and divisors of "
            f"config.private.samples, {config.private.samples}"
        )


def _draw(key, config, samples):
    """Features, their labels, and the weights behind them."""
    keys = jax.random.split(key, 3)
    theta = jax.random.normal(keys[0], (config.features,))
    theta /= jnp.linalg.norm(theta)
    x = jax.random.normal(keys[1], (samples, config.features))
    noise = config.deviation * jax.random.normal(keys[2], (samples,))
    return x, x @ theta + noise, theta


def bag_errors(key: jax.Array, config, bags: int, size: int) -> dict:
    """Squared errors of the weights, one for each rho."""
    x, y, theta = _draw(key, config, bags * size)
    ids = jnp.arange(bags * size) // size
    means = targets.aggregate_labels(y, ids, bags)
    fits = jax.vmap(lambda rho: estimators.aggregate_ridge(x, ids, means, rho))
    errors = jnp.sum(jnp.square(fits(jnp.array(config.rhos)) - theta[None]), 1)
    return {f"rho/{rho:g}": errors[i] for i, rho in enumerate(config.rhos)}


def private_errors(key: jax.Array, config) -> dict:
    """Squared errors of the weights [budgets], for each size of the bags.

    All sizes have as many bags as there are examples, the last of them empty: one fit
    for all.
    """
    private = config.private
    draw_key, noise_key = jax.random.split(key)
    x, y, theta = _draw(draw_key, config, private.samples)

    def error(epsilon, size):
        ids = jnp.arange(private.samples) // size
        means = targets.private_aggregate_labels(
            jax.random.fold_in(noise_key, size),
            y,
            ids,
            private.samples,
            clip=private.clip,
            epsilon=epsilon,
        )
        fit = estimators.aggregate_ridge(x, ids, means, private.rho)
        return jnp.sum(jnp.square(fit - theta))

    budgets, sizes = jnp.array(private.budgets), jnp.array(private.sizes)
    errors = jax.lax.map(
        lambda size: jax.vmap(lambda epsilon: error(epsilon, size))(budgets), sizes
    )
    return {f"size/{size}": errors[i] for i, size in enumerate(private.sizes)}


def _finals(results, arm, names):
    return np.stack([results[arm].final(name) for name in names])


def _best(results, arm, kind, values):
    """Of each seed, the logarithm of the value with the least error."""
    errors = _finals(results, arm, [f"{kind}/{value:g}" for value in values])
    return np.log(np.asarray(values, float)[errors.argmin(0)])


def _claims(config, settings):
    def gain(arm, end, best, kind):
        """What the end costs more, in percent of its mean error."""

        def ours(results):
            there, here = _finals(results, arm, [f"{kind}/{end:g}", f"{kind}/{best:g}"])
            return 100 * (there - here) / there.mean()

        return ours

    claims = [
        report.Claim(
            text=(
                f"{n} bags of {k}: ρ = {best:g} has less error than "
                f"{'bags' if end == 0 else 'instances'} alone (ρ = {end})"
            ),
            reference=(
                prototype(PROTOTYPE[n, k])
                if (n, k) in PROTOTYPE
                else stated("an interior optimum")
            ),
            ours=gain(bag_arm(n, k), end, best, "rho"),
            at_least=config.tolerances.gain,
            over="mean",
            unit="% less",
            needs=(bag_arm(n, k),),
        )
        for n, k, best in config.settings
        for end in (0, 1)
    ]
    inner = config.rhos[1:]
    pairs = [(a, b) for a in settings for b in settings if a[1] == b[1] and a[0] < b[0]]
    claims += [
        report.Claim(
            text=f"the best ρ is smaller with {b[0]} bags of {b[1]} than with {a[0]}",
            reference=prototype("0.05 and 0.2"),
            ours=lambda r, a=a, b=b: (
                _best(r, bag_arm(*a), "rho", inner)
                - _best(r, bag_arm(*b), "rho", inner)
            ),
            above=0.0,
            over="mean",
            unit="nats",
            needs=(bag_arm(*a), bag_arm(*b)),
        )
        for a, b in pairs
    ]
    private = config.private
    strict, loose = min(private.budgets), max(private.budgets)
    for end in (private.sizes[0], private.sizes[-1]):
        claims.append(
            report.Claim(
                text=(
                    f"with private labels (ε = {strict:g}) bags of {private.best} have "
                    f"less error than bags of {end}"
                ),
                reference=stated("there is a best size of the bags"),
                ours=gain(budget_arm(strict), end, private.best, "size"),
                at_least=config.tolerances.gain,
                over="mean",
                unit="% less",
                needs=(budget_arm(strict),),
            )
        )
    claims.append(
        report.Claim(
            text=f"the best bags are larger with ε = {strict:g} than with {loose:g}",
            reference=stated("the best size depends on the privacy"),
            ours=lambda r: (
                _best(r, budget_arm(strict), "size", private.sizes)
                - _best(r, budget_arm(loose), "size", private.sizes)
            ),
            above=0.0,
            over="mean",
            unit="nats",
            needs=(budget_arm(strict), budget_arm(loose)),
        )
    )
    return claims
