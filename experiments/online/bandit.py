"""Which regularizer bears estimates of losses that may be far below zero?

Ten arms with Bernoulli losses; a loss is seen of the arm that is pulled alone, and is
divided by its chance. Where losses are lowered by a constant first, which changes
nothing about the arms, these estimates are negative and large: exponential weights with
a rate as large as the log-barrier's then leave arms for good.

Source: Refined Regret for Adversarial MDPs with Linear Function Approximation, Dai et
al. 2023, arXiv:2301.12942.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype, stated
from logitlab import optim, report
from logitlab.train import Compute, Study

BARRIER, TUNED, SAME = "log_barrier", "exponential", "exponential_same_rate"
LABELS = {
    BARRIER: "log-barrier",
    TUNED: "exponential weights",
    SAME: "exponential weights, the log-barrier's rate",
}


def build(config) -> Study:
    """The study; nothing here plays, writes or prints."""
    _check(config)
    last = config.horizons[-1]
    return Study(
        arms={
            name: Compute(functools.partial(regrets, name, config)) for name in LABELS
        },
        figures={
            "rounds": report.trends(
                {t: f"regret/0/{t}" for t in config.horizons},
                label="regret, losses as they are",
                across="rounds",
                log=True,
                log_across=True,
            ),
            "shift": report.trends(
                {shift: f"regret/{shift:g}/{last}" for shift in config.shifts},
                label=f"regret after {last} rounds",
                across="what losses are lowered by",
                log=True,
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Log-barrier and exponential weights where estimates may be negative",
        summary=(
            f"{config.arms} arms: one with a mean loss of {config.best:g}, the others "
            f"of {config.others[0]:g} to {config.others[1]:g}. A seed is the mean of "
            f"{config.repeats} plays, all of them in one program. Rates: for the "
            "log-barrier √(K log T / T), for exponential weights √(log K / (K T))."
        ),
        captions={
            "rounds": "Expected regret of the chances played.",
            "shift": "The arms are the same at every shift; only the estimates differ.",
        },
    )


def _check(config):
    horizons, shifts = tuple(config.horizons), tuple(config.shifts)
    if sorted(set(horizons)) != list(horizons) or len(horizons) < 2:
        raise ValueError(f"config.horizons is {horizons}, expected two, growing")
    if sorted(set(shifts)) != list(shifts) or shifts[:1] != (0.0,):
        raise ValueError(f"config.shifts is {shifts}, expected growing numbers from 0")
    if config.arms < 2 or config.repeats < 1:
        raise ValueError(
            f"config.arms is {config.arms}, config.repeats {config.repeats}; expected "
            "at least 2 and 1"
        )


def rate(name: str, arms: int, rounds: int) -> float:
    """The learning rate of a learner."""
    if name == TUNED:
        return float(np.sqrt(np.log(arms) / (arms * rounds)))
    return float(np.sqrt(arms * np.log(rounds) / rounds))


def regrets(name: str, config, key: jax.Array) -> dict:
    """Mean regret at every horizon, and at every shift of the longest one."""
    arms, last = config.arms, config.horizons[-1]
    mean_key, play_key = jax.random.split(key)
    keys = jax.random.split(play_key, config.repeats)
    low, high = config.others
    means = jax.random.uniform(
        mean_key, (config.repeats, arms), minval=low, maxval=high
    )
    means = means.at[:, 0].set(config.best)
    cases = [(t, 0.0) for t in config.horizons]
    cases += [(last, shift) for shift in config.shifts if shift > 0]
    return {
        f"regret/{shift:g}/{t}": played(
            name, t, rate(name, arms, t), shift, means, keys
        ).mean()
        for t, shift in cases
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def played(
    name: str,
    rounds: int,
    eta: float,
    shift: float,
    means: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """Expected regrets of plays side by side.

    Shapes: means [R, K], keys [R] -> [R]
    """
    rows = jnp.arange(len(means))

    def round_(cumulated, t):
        if name == BARRIER:
            chances = optim.log_barrier_policy(cumulated, eta=eta)
        else:
            chances = jax.nn.softmax(-eta * cumulated)
        fresh = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t)))(keys)
        arm = jax.vmap(jax.random.categorical)(fresh[:, 0], jnp.log(chances))
        luck = jax.vmap(jax.random.uniform)(fresh[:, 1])
        loss = (luck < means[rows, arm]).astype(means.dtype)
        # Never 0 for an arm that was drawn, but where it rounds to it.
        estimate = (loss - shift) / jnp.maximum(chances[rows, arm], 1e-30)
        lost = jnp.sum(chances * means, -1) - means.min(-1)
        return cumulated.at[rows, arm].add(estimate), lost

    start = jnp.zeros_like(means)
    return jax.lax.scan(round_, start, jnp.arange(rounds))[1].sum(0)


def _claims(config):
    bounds, horizons = config.tolerances, config.horizons
    last = horizons[-1]
    uniform = last * ((sum(config.others) / 2 - config.best) * (1 - 1 / config.arms))

    def regret(results, name, shift=0.0, rounds=last):
        return results[name].final(f"regret/{shift:g}/{rounds}")

    growth = [
        report.Claim(
            text=f"the log-barrier's regret from {a} to {b} rounds",
            reference=prototype("2.2 from 1000 to 4000 rounds, 2.1 from 4000 to 16000"),
            ours=lambda r, a=a, b=b: (
                regret(r, BARRIER, rounds=b) / regret(r, BARRIER, rounds=a)
            ),
            at_least=bounds.growth[0],
            at_most=bounds.growth[1],
            over="mean",
            unit="times as large",
            needs=(BARRIER,),
        )
        for a, b in zip(horizons, horizons[1:], strict=False)
    ]
    shifted = []
    for shift in config.shifts[1:]:
        shifted += [
            report.Claim(
                text=f"losses lowered by {shift:g}: the log-barrier goes on learning",
                reference=stated("it bears estimates that are far below 0"),
                ours=lambda r, shift=shift: regret(r, BARRIER, shift) / uniform,
                at_most=bounds.learns,
                over="mean",
                unit="of the regret of even chances",
                needs=(BARRIER,),
            ),
            report.Claim(
                text=f"losses lowered by {shift:g}: exponential weights with its rate "
                "do not",
                reference=stated("they ask for estimates above one over the rate"),
                ours=lambda r, shift=shift: (
                    regret(r, SAME, shift) / regret(r, BARRIER, shift)
                ),
                at_least=bounds.breaks,
                over="mean",
                unit="times the log-barrier's regret",
                needs=(BARRIER, SAME),
            ),
        ]
    return [
        *growth,
        report.Claim(
            text=f"after {last} rounds it is below that of exponential weights",
            reference=prototype("539 against 650"),
            ours=lambda r: regret(r, BARRIER) / regret(r, TUNED),
            at_most=1.0,
            over="mean",
            unit="of their regret",
            needs=(BARRIER, TUNED),
        ),
        *shifted,
    ]
