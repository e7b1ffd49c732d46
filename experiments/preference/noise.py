"""What do flipped preferences do to DPO, and does knowing their rate mend it?

Answers are arms of a bandit with random features, the policy is log-linear in them, and
preferences follow Bradley and Terry until some are flipped. DPO believes what it sees,
cDPO smooths the labels, and rDPO, whose loss is unbiased at the true rate, undoes the
flips. What counts is the KL-regularised value, which wants the sizes of rewards right:
flips shrink them and hardly turn them, so that rankings tell little.

Source: Provably Robust DPO, Chowdhury et al. 2024, arXiv:2403.00409.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import stated
from experiments.common.solvers import minimised
from logitlab import losses, numerics, report
from logitlab.train import Compute, Study

METHODS = {"dpo": "DPO", "cdpo": "cDPO", "rdpo": "rDPO"}
ENDLESS = 100.0  # times the true norm: a loss that has no minimum
PROTOTYPE = {  # gaps of DPO, cDPO and rDPO
    0.1: (0.255, 0.562, 0.027),
    0.3: (0.990, 1.428, 0.297),
    0.4: (1.340, 1.648, 0.551),
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    problem = config.problem

    def against_rate(metric, label, **look):
        return report.trends(
            {rate: f"{metric}/{rate:g}" for rate in config.rates},
            label=label,
            across="share of preferences flipped",
            **look,
        )

    return Study(
        arms={
            name: Compute(functools.partial(_values, name, config)) for name in METHODS
        },
        figures={
            "gap": against_rate("gap", "regularised value lost (nats)"),
            "norm": against_rate(
                "norm", "size of the weights over the true one", bound=(1.0, "true")
            ),
            "accuracy": against_rate("accuracy", "pairs of arms ranked right"),
        },
        claims=_claims(config),
        labels=METHODS,
        title="Preferences of which some are flipped",
        summary=(
            f"{problem.arms} arms with {problem.features} random features, rewards "
            f"linear in them by weights of norm {problem.norm:g}, {problem.pairs} "
            f"preferences, beta = {config.beta:g}, a uniform reference. Every loss is "
            "minimised by L-BFGS over all pairs; a loss that has no minimum stops "
            f"after {config.steps} steps."
        ),
        captions={
            "gap": "What a policy lacks of the best KL-regularised value.",
            "norm": (
                "Flips shrink the weights; rDPO's loss grows them back. Seeds in which "
                "it has no minimum are left out."
            ),
            "accuracy": "Their direction is found by all three: rankings agree.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: losses are minimised")
    if not config.rates or not all(0 <= rate < 0.5 for rate in config.rates):
        raise ValueError(
            f"config.rates is {tuple(config.rates)}, expected numbers in [0, 0.5)"
        )
    least = dict(features=1, arms=2, pairs=1)
    for name, value in least.items():
        if config.problem[name] < value:
            raise ValueError(
                f"config.problem.{name} is {config.problem[name]}, expected at least "
                f"{value}"
            )


def _values(method, config, key):
    problem = config.problem
    columns = _measure(
        (problem.features, problem.arms, problem.pairs),
        config.steps,
        key,
        list(METHODS).index(method),
        jnp.asarray(config.rates),
        problem.norm,
        config.beta,
        config.gradient,
    )
    return {
        f"{metric}/{rate:g}": value
        for metric, values in columns.items()
        for rate, value in zip(config.rates, values, strict=True)
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(sizes, steps, key, method, rates, norm, beta, gradient):
    """What one loss makes of the same preferences at each rate of flips.

    The losses share a program, most of which is a line search.
    """
    keys = jax.random.split(key, 5)
    features, arms, pairs = sizes
    phi = jax.random.normal(keys[0], (arms, features))
    true = jax.random.normal(keys[1], (features,))
    true *= norm / jnp.linalg.norm(true)
    first = jax.random.randint(keys[2], (pairs,), 0, arms)
    second = (first + jax.random.randint(keys[3], (pairs,), 1, arms)) % arms
    reward = beta * phi @ true
    draw, flip = jax.random.uniform(keys[4], (2, pairs))
    wins = draw < jax.nn.sigmoid(reward[first] - reward[second])

    def at(rate):
        first_wins = wins ^ (flip < rate)
        chosen = jnp.where(first_wins, first, second)
        rejected = jnp.where(first_wins, second, first)
        reference = jnp.full(pairs, -jnp.log(arms))

        def dpo(*logps):
            return losses.dpo_loss(*logps, beta=beta)

        def cdpo(*logps):
            return losses.dpo_loss(*logps, beta=beta, label_smoothing=rate)

        def rdpo(*logps):
            return losses.robust_dpo_loss(*logps, beta=beta, label_smoothing=rate)

        def objective(theta):
            logps = log_policy(phi, theta)
            arrays = logps[chosen], logps[rejected], reference, reference
            return jax.lax.switch(method, (dpo, cdpo, rdpo), *arrays).mean()

        start = jnp.zeros(features)
        theta = minimised(objective, start, steps=steps, tolerance=gradient)
        size = jnp.linalg.norm(theta) / norm
        return {
            "gap": value_gap(phi, theta, true, beta),
            "norm": jnp.where(size < ENDLESS, size, jnp.nan),
            "endless": jnp.where(size < ENDLESS, 0.0, 1.0),
            "accuracy": ranking_accuracy(phi @ theta, reward),
        }

    return jax.lax.map(at, rates)


def log_policy(phi: jax.Array, theta: jax.Array) -> jax.Array:
    """Log-probabilities of the arms under a log-linear policy."""
    return numerics.log_softmax(phi @ theta)


def value_gap(
    phi: jax.Array, theta: jax.Array, true: jax.Array, beta: jax.Array
) -> jax.Array:
    r"""What the policy of ``theta`` lacks of the best KL-regularised value.

    .. math:: J(\pi) = \sum_a \pi_a r_a - \beta\, \mathrm{KL}(\pi \| \text{uniform}),
        \quad r = \beta \phi\, \theta_{true}

    of which the policy of ``true`` has the most.
    """
    reward = beta * phi @ true
    logps = log_policy(phi, theta)
    spread = jnp.sum(jnp.exp(logps) * (logps + jnp.log(phi.shape[0])))
    value = jnp.exp(logps) @ reward - beta * spread
    best = beta * (numerics.logsumexp(reward / beta) - jnp.log(phi.shape[0]))
    return best - value


def ranking_accuracy(scores: jax.Array, reward: jax.Array) -> jax.Array:
    """Share of the pairs of arms that scores order as rewards do."""
    first, second = np.triu_indices(len(scores), 1)
    agree = (scores[first] > scores[second]) == (reward[first] > reward[second])
    return agree.mean()


def _claims(config):
    bounds, claims = config.tolerances, []

    for rate in bounds.at:
        if rate not in config.rates:
            continue
        gaps = PROTOTYPE.get(rate)
        for place, other in enumerate(("dpo", "cdpo")):
            claims.append(
                report.Claim(
                    text=(
                        f"with {rate:.0%} flipped rDPO's gap is far below "
                        f"{METHODS[other]}'s"
                    ),
                    reference=stated(
                        "rDPO is ahead of DPO and cDPO (IMDb, HH)",
                        f"{gaps[2]} against {gaps[place]}" if gaps else "",
                    ),
                    ours=report.ahead(
                        f"gap/{rate:g}", "rdpo", other, times=bounds.gap_ratio
                    ),
                    at_most=0.0,
                    over="mean",
                    unit=f"nats above {bounds.gap_ratio:g} times its gap",
                    needs=("rdpo", other),
                )
            )
        claims.append(
            report.Claim(
                text=f"with {rate:.0%} flipped DPO ranks arms about as well as rDPO",
                ours=report.ahead(f"accuracy/{rate:g}", "rdpo", "dpo"),
                equals=0.0,
                within=bounds.accuracy_within,
                over="mean",
                unit="more accurate",
                needs=("rdpo", "dpo"),
                question=True,
            )
        )
    return [
        *claims,
        report.Claim(
            text=f"with {max(config.rates):.0%} flipped rDPO's loss has no minimum",
            reference=stated("a loss without a lower bound"),
            ours=lambda r: r["rdpo"].final(f"endless/{max(config.rates):g}"),
            at_least=1.0,
            over="share",
            share=bounds.endless,
            needs=("rdpo",),
            question=True,
        ),
    ]
