"""Does a small group fare better if the objective is the worst group's loss?

Two groups of examples, one ten times the other, have classes around different centers,
and a linear classifier that does not see the group has to compromise. The mean loss
sides with the large group; a penalty of the groups' differences moves it, and the loss
of the worst group moves it furthest.

Source: Algorithmic bias in depression detection 2025, arXiv:2509.25795.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import losses, metrics, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

MEAN, WORST = "mean", "worst"
KINDS = {
    "gap": "penalty of the gap",
    "variance": "penalty of the variance",
    "group_mean": "mean over groups added",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    penalties = {
        arm_name(kind, weight): (kind, weight)
        for kind in config.kinds
        for weight in config.weights
    }
    ends = {MEAN: (MEAN, 0.0), WORST: (WORST, 0.0)}
    shown = (MEAN, arm_name("gap", config.weight), WORST)
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, *arm))
            for name, arm in {**ends, **penalties}.items()
        },
        figures={
            "worst": report.intervals(
                {"groups": shown},
                ["mean loss", f"with the gap\ntimes {config.weight:g}", "worst group"],
                "accuracy/worst",
                label="accuracy of the worst group",
                across="objective",
            ),
            "price": report.frontier(
                {
                    KINDS[kind]: {MEAN: "0"}
                    | {arm_name(kind, w): f"{w:g}" for w in config.weights}
                    for kind in config.kinds
                }
                | {"loss of the worst group": {WORST: ""}},
                across=("accuracy", "accuracy of all"),
                up=("accuracy/worst", "accuracy of the worst group"),
                marks="beside points: the penalty's weight",
            ),
        },
        claims=_claims(config),
        labels={MEAN: "mean loss", WORST: "loss of the worst group"}
        | {
            arm_name(kind, weight): f"{KINDS[kind]}, {weight:g}"
            for kind, weight in penalties.values()
        },
        title="The mean loss, fairness penalties and the loss of the worst group",
        summary=(
            f"{config.rows[0]} examples of one group and {config.rows[1]} of another. "
            f"Classes are normal around two opposite centers, {config.distance:g} from "
            f"the middle of {config.features} features, and the groups' directions are "
            f"{config.angle:g} degrees apart. A linear classifier descends each "
            f"objective for {config.steps} steps of Adam and is tested on "
            f"{config.test} examples of each group; the accuracy of all weighs them as "
            "the training set does."
        ),
        captions={
            "worst": "The objectives that the claims compare.",
            "price": "What the worst group gains, and what all together lose.",
        },
    )


def arm_name(kind: str, weight: float) -> str:
    """Name of the arm of a penalty and its weight."""
    return f"{kind}_{weight:g}"


def _check(config):
    for kind in config.kinds:
        check_name(kind, tuple(KINDS), "config.kinds")
    if "gap" not in config.kinds or config.weight not in config.weights:
        raise ValueError(
            f"config.kinds is {tuple(config.kinds)}, config.weights "
            f"{tuple(config.weights)}; expected 'gap' and {config.weight:g} among them"
        )
    for name in ("rows", "test"):
        if np.min(config[name]) < 1:
            raise ValueError(
                f"config.{name} is {config[name]}, expected groups of at least 1"
            )
    if config.features < 2:
        raise ValueError(f"config.features is {config.features}, expected at least 2")


def draw(key, rows: tuple[int, int], features: int, *, distance, angle) -> tuple:
    """Inputs [N, D], labels [N] and groups [N]: the first group's rows come first."""
    label_key, noise_key = jax.random.split(key)
    groups = jnp.repeat(jnp.arange(2), np.array(rows), total_repeat_length=sum(rows))
    y = jax.random.bernoulli(label_key, shape=groups.shape).astype("int32")
    turn = jnp.deg2rad(angle) * groups
    centers = jnp.stack([jnp.cos(turn), jnp.sin(turn)], -1)
    x = jax.random.normal(noise_key, (sum(rows), features))
    return x.at[:, :2].add(distance * (2 * y - 1)[:, None] * centers), y, groups


def objective(kind: str, losses_of_all: jax.Array, groups, weight) -> jax.Array:
    """One number for the losses of a training set in two groups."""
    if kind == MEAN:
        return losses_of_all.mean()
    if kind == WORST:
        return losses.worst_group_loss(losses_of_all, groups, num_groups=2)
    return losses.fairness_regularized_loss(
        losses_of_all, groups, num_groups=2, weight=weight, kind=kind
    )


def _values(config, kind, weight, key):
    return _trained(
        kind,
        (tuple(config.rows), config.features, config.steps, config.test),
        key,
        weight,
        config.learning_rate,
        dict(distance=config.distance, angle=config.angle),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _trained(kind, sizes, key, weight, learning_rate, law):
    rows, features, steps, test = sizes
    train_key, test_key = jax.random.split(key)
    x, y, groups = draw(train_key, rows, features, **law)

    def logits(params, x):
        return x @ params["kernel"] + params["bias"]

    def loss(params):
        each = optax.losses.sigmoid_binary_cross_entropy(logits(params, x), y)
        return objective(kind, each, groups, weight)

    start = {"kernel": jnp.zeros(features), "bias": jnp.zeros(())}
    params, _ = descended(jax.grad(loss), start, optax.adam(learning_rate), steps=steps)
    x, y, groups = draw(test_key, (test, test), features, **law)
    yes = logits(params, x) > 0
    right = metrics.group_means(yes == y, groups, num_groups=2).value
    return {
        "accuracy": jnp.average(right, weights=jnp.array(rows)),
        "accuracy/worst": right.min(),
        "accuracy/small": right[1],
        "equal_opportunity": metrics.equal_opportunity(yes, y, groups, num_groups=2),
    }


def _claims(config):
    bounds, gap = config.tolerances, arm_name("gap", config.weight)
    better = stated("the loss of the worst group balances better than a penalty")
    return [
        ahead(
            "a penalty of the gap raises the accuracy of the worst group",
            "accuracy/worst",
            gap,
            MEAN,
            reference="what the penalty is for",
            above=0.0,
            over="mean",
            unit="above the mean loss's",
        ),
        ahead(
            "the loss of the worst group raises it further",
            "accuracy/worst",
            WORST,
            gap,
            reference=better,
            above=0.0,
            over="mean",
            unit="above the penalty's",
        ),
        ahead(
            "it costs a few points of the accuracy of all",
            "accuracy",
            WORST,
            MEAN,
            scale=100,
            reference=better,
            at_least=-bounds.drop,
            over="mean",
            unit="points above the mean loss's",
        ),
        ahead(
            "it brings the groups' true positive rates closer together",
            "equal_opportunity",
            WORST,
            MEAN,
            reference=better,
            above=0.0,
            over="mean",
            unit="of their ratio above the mean loss's",
        ),
    ]
