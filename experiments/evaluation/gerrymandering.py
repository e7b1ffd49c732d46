"""Can a model treat the groups of two attributes alike, but not their intersections?

The label depends on whether two protected attributes agree, which neither of them tells
by itself. A penalty of the dependence on each attribute then has nothing to find, while
predictions differ between the intersections as much as without it. Penalties of the
dependence on both at once see it.

Source: Intersectional fairness through regularisation 2025.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import losses, metrics, models, report
from logitlab.train import Compute, Study

NONE, MARGINAL = "none", "marginal"
PENALTIES = {
    MARGINAL: "of each attribute (dCov)",
    "concatenated": "of both, joined (CCdCov)",
    "joint": "of both, jointly (JdCov)",
}
PROTOTYPE = {NONE: 0.573, MARGINAL: 0.545, "concatenated": 0.136, "joint": 0.099}
GAP = "gap/intersections"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    arms = {NONE: (NONE, 0.0)} | {
        arm_name(penalty, weight): (penalty, weight)
        for penalty in PENALTIES
        for weight in config.weights
    }
    last = {name: arm_name(name, config.weights[-1]) for name in PENALTIES}
    shown = [NONE, *last.values()]
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, *arm))
            for name, arm in arms.items()
        },
        figures={
            "gap": report.intervals(
                {"intersections": shown},
                ["no penalty", "each\nattribute", "both,\njoined", "both,\njointly"],
                GAP,
                label="gap between intersections",
                across=f"penalty, of weight {config.weights[-1]:g}",
            ),
            "price": report.frontier(
                {
                    words: {NONE: "0"}
                    | {arm_name(penalty, w): f"{w:g}" for w in config.weights}
                    for penalty, words in PENALTIES.items()
                },
                across=(GAP, "gap between intersections"),
                up=("accuracy", "test accuracy"),
                marks="beside points: the penalty's weight",
            ),
        },
        claims=_claims(config, last),
        labels={NONE: "no penalty"}
        | {
            arm_name(penalty, weight): f"{words}, {weight:g}"
            for penalty, words in PENALTIES.items()
            for weight in config.weights
        },
        title="Fair to each group, unfair to their intersections",
        summary=(
            "Two attributes, each 0 or 1 with even odds, and five normal features. The "
            f"log-odds of the label are {config.features:g} times the features' sum, "
            f"and {config.agreement:g} more where the attributes agree, less where "
            f"not. A network learns from {config.steps} fresh batches of "
            f"{config.batch_size}; gaps are between the largest and the smallest mean "
            f"prediction of a group, of {config.test} others."
        ),
        captions={
            "gap": "Largest less smallest mean prediction of the four intersections.",
            "price": "What the accuracy pays for predictions that are alike.",
        },
    )


def arm_name(penalty: str, weight: float) -> str:
    """Name of the arm of a penalty and its weight."""
    return f"{penalty}_{weight:g}"


def _check(config):
    weights = tuple(config.weights)
    if not weights or sorted({*weights, 0}) != [0, *weights]:
        raise ValueError(
            f"config.weights is {weights}, expected numbers above 0 in increasing order"
        )
    for name, least in (("batch_size", 4), ("steps", 1), ("test", 4)):
        if config[name] < least:
            raise ValueError(
                f"config.{name} is {config[name]}, expected at least {least}"
            )


def draw(key, rows: int, *, agreement, features) -> tuple:
    """Inputs [N, 7], the attributes first; attributes [N, 2] of 0 and 1; labels [N]."""
    attribute_key, feature_key, label_key = jax.random.split(key, 3)
    attributes = jax.random.bernoulli(attribute_key, shape=(rows, 2)).astype("float32")
    x = jax.random.normal(feature_key, (rows, 5))
    sign = jnp.where(attributes[:, 0] == attributes[:, 1], 1, -1)
    odds = agreement * sign + features * x.sum(-1)
    y = jax.random.bernoulli(label_key, jax.nn.sigmoid(odds))
    return jnp.concatenate([2 * attributes - 1, x], -1), attributes, y.astype("int32")


def penalized(penalty: str, predictions: jax.Array, attributes: jax.Array) -> jax.Array:
    """How much predictions [N] depend on the columns of attributes [N, K]."""
    columns = attributes.T
    if penalty == NONE:
        return jnp.zeros(())
    if penalty == MARGINAL:
        return sum(metrics.distance_covariance(predictions, a) for a in columns)
    if penalty == "concatenated":
        return losses.concatenated_distance_covariance_penalty(predictions, *columns)
    return losses.joint_distance_covariance_penalty(predictions, *columns)


def _values(config, penalty, weight, key):
    return _trained(
        penalty,
        (config.batch_size, config.steps, config.test),
        tuple(config.widths),
        key,
        weight,
        config.learning_rate,
        dict(agreement=config.agreement, features=config.features),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _trained(penalty, sizes, widths, key, weight, learning_rate, law):
    batch_size, steps, test = sizes
    init_key, batch_key, test_key = jax.random.split(key, 3)
    model = models.MLP(widths=widths, classes=1)

    def logits(params, x):
        return model.apply(params, x)[:, 0]

    def loss(params, key):
        x, attributes, y = draw(key, batch_size, **law)
        z = logits(params, x)
        found = penalized(penalty, jax.nn.sigmoid(z), attributes)
        return optax.losses.sigmoid_binary_cross_entropy(z, y).mean() + weight * found

    x, attributes, y = draw(test_key, test, **law)
    params, _ = descended(
        jax.grad(loss),
        model.init(init_key, x[:1]),
        optax.adam(learning_rate),
        batches=jax.random.split(batch_key, steps),
    )
    z = logits(params, x)
    return {"accuracy": jnp.mean((z > 0) == y)} | unfairness(
        jax.nn.sigmoid(z), attributes.astype("int32")
    )


def unfairness(predictions: jax.Array, attributes: jax.Array) -> dict:
    """How predictions [N] differ between groups, and between intersections of two."""
    first, second = attributes.T
    both = 2 * first + second
    groups = {"gap/first": (first, 2), "gap/second": (second, 2), GAP: (both, 4)}
    gaps = {}
    for name, (ids, many) in groups.items():
        means = metrics.group_means(predictions, ids, num_groups=many).value
        gaps[name] = means.max() - means.min()
    return gaps | {
        "jsd": metrics.group_jsd(predictions, both, num_groups=4),
        "uf_index": metrics.uf_index(predictions, both, num_groups=4),
    }


def _claims(config, last):
    bounds = config.tolerances

    def ratio(arm):
        return lambda r: r[arm].final(GAP) / r[NONE].final(GAP)

    def marginal(r):
        gaps = [r[a].final(f"gap/{w}") for a in arms for w in ("first", "second")]
        return np.max(gaps, 0)

    arms = (NONE, *last.values())
    number = {name: prototype(f"{gap:g}") for name, gap in PROTOTYPE.items()}
    return [
        report.Claim(
            text="no model treats the two groups of an attribute differently",
            reference=prototype("0.014 to 0.032"),
            ours=marginal,
            at_most=bounds.groups,
            unit="the largest gap",
            needs=arms,
        ),
        report.Claim(
            text="without a penalty the intersections are far apart",
            reference=number[NONE],
            ours=lambda r: r[NONE].final(GAP),
            at_least=bounds.apart,
            unit="between mean predictions",
            needs=(NONE,),
        ),
        report.Claim(
            text="penalties of each attribute by itself leave that gap as it is",
            reference=stated(
                "marginal penalties leave disparities of subgroups",
                f"{PROTOTYPE[MARGINAL]:g} of {PROTOTYPE[NONE]:g}",
            ),
            ours=ratio(last[MARGINAL]),
            at_least=bounds.left,
            unit="of it",
            format=".0%",
            needs=(NONE, last[MARGINAL]),
        ),
        *(
            report.Claim(
                text=f"the penalty {PENALTIES[name]} cuts it at least four-fold",
                reference=stated(
                    "both joint penalties remove disparities of subgroups",
                    f"{PROTOTYPE[name]:g} of {PROTOTYPE[NONE]:g}",
                ),
                ours=ratio(last[name]),
                at_most=bounds.cut,
                unit="of it",
                format=".0%",
                needs=(NONE, last[name]),
            )
            for name in ("concatenated", "joint")
        ),
    ]
