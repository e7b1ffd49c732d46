"""Can one predictor be as good for every group as a model of the group's own?

Groups overlap, each has a linear model of its own, and a label is the mean of those of
the groups that a round belongs to, plus noise. One online ridge regression for all is
held against a weighted mean of one for each group. Regret of a group is what is lost in
its rounds more than by its own ridge regression in hindsight.

Source: Oracle Efficient Algorithms for Groupwise Regret, Acharya et al. 2023,
arXiv:2310.04652.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import prototype
from logitlab import optim, report
from logitlab.train import Compute, Study

GROUPWISE, GLOBAL = "groupwise", "global"
LABELS = {GROUPWISE: "a learner for each group", GLOBAL: "one learner for all"}


def build(config) -> Study:
    """The study; nothing here predicts, writes or prints."""
    _check(config)
    measured = once_per_key(functools.partial(regrets, config=config))
    many = config.groups + 1
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in LABELS
        },
        figures={
            "regret": report.trends(
                {g: f"regret/{g}" for g in range(many)},
                label="regret against the group's own model",
                across="group; 0 is everybody",
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Predictions that are good for every group",
        summary=(
            f"{config.rounds} rounds, {config.dimension} features, {config.groups} "
            f"groups that hold a round with probability {config.share:g} each, and one "
            "that holds all; squared errors over 4."
        ),
        captions={
            "regret": "Below 0: better than the best fixed model of the group, as its "
            "rounds belong to other groups too."
        },
    )


def _check(config):
    if config.rounds < 10 or config.groups < 1 or config.dimension < 1:
        raise ValueError(
            f"config.rounds is {config.rounds}, config.groups {config.groups}, "
            f"config.dimension {config.dimension}; expected at least 10, 1 and 1"
        )
    if not 0 < config.share < 1:
        raise ValueError(f"config.share is {config.share}, expected in (0, 1)")


def draw(key: jax.Array, config) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features [T, D], labels [T] and groups [T, G + 1], the first of which is all."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (config.rounds, config.dimension))
    x = x / np.sqrt(config.dimension)
    some = jax.random.bernoulli(keys[1], config.share, (config.rounds, config.groups))
    groups = jnp.concatenate([jnp.ones((config.rounds, 1), bool), some], -1)
    models = jax.random.normal(keys[2], (config.groups + 1, config.dimension))
    active = groups / groups.sum(-1, keepdims=True)
    noise = jax.random.normal(keys[3], (config.rounds,))
    return x, jnp.sum((active @ models) * x, -1) + config.noise * noise, groups


def regrets(key: jax.Array, config) -> dict[str, dict]:
    """Regrets of both predictors for every group, by predictor."""
    lost, least = _played(*draw(key, config), config.ridge)
    return {
        name: {f"regret/{g}": r for g, r in enumerate(np.asarray(lost[name] - least))}
        for name in LABELS
    }


@jax.jit
def _played(x, y, groups, ridge):
    def loss(predictions):
        return jnp.square(predictions - y) / 4

    many = optim.groupwise_predictor(x, y, groups, ridge=ridge, loss_scale=4.0)
    one = optim.groupwise_predictor(x, y, groups[:, :1], ridge=ridge, loss_scale=4.0)

    def best(member):
        few = jnp.where(member[:, None], x, 0)
        gram = few.T @ few + ridge * jnp.eye(x.shape[1])
        theta = jnp.linalg.solve(gram, few.T @ y)
        return jnp.sum(loss(x @ theta), where=member)

    def of_groups(losses):
        return jnp.sum(losses[:, None], 0, where=groups)

    least = jax.lax.map(best, groups.T)
    lost = {GROUPWISE: many.predictions, GLOBAL: one.predictions}
    return {name: of_groups(loss(p)) for name, p in lost.items()}, least


def _claims(config):
    def regret(results, name):
        rows = [results[name].final(f"regret/{g}") for g in range(config.groups + 1)]
        return np.stack(rows)

    return [
        report.Claim(
            text="in every group the learners of groups have less regret",
            reference=prototype("ahead in all of 6 groups, by 7.7 to 66"),
            ours=lambda r: (regret(r, GLOBAL) - regret(r, GROUPWISE)).min(0),
            above=0.0,
            unit="less in the group where it is least",
            needs=tuple(LABELS),
        ),
        report.Claim(
            text="their largest regret of a group is small",
            reference=prototype("1.2, against 24.5 of one learner for all"),
            ours=lambda r: regret(r, GROUPWISE).max(0) / regret(r, GLOBAL).max(0),
            at_most=config.tolerances.largest,
            over="mean",
            unit="of the largest regret of one learner for all",
            needs=tuple(LABELS),
        ),
    ]
