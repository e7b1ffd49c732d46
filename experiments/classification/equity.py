"""Does a weight for rare appearance help the images that look unlike the others?

Digits are clustered by their pixels, whatever they show, and one cluster is cut down to
two hundredths of the training images. Its images are then weighted by how rare they
are, by several settings of the weight.

Source: DatasetEquity 2023, arXiv:2308.09878.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.datasets import DIGITS, digits, images
from experiments.common.references import BOUND, stated
from logitlab import losses, metrics, models, report, weights
from logitlab.train import Run, Study

RARE, ALL = "rare/accuracy", "test/accuracy"
NONE = "none"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if not 0 < config.share < 1 or config.clusters < 2:
        raise ValueError(
            f"config.share is {config.share} and config.clusters {config.clusters}, "
            "expected a share in (0, 1) of one of two or more clusters"
        )
    if not 0 < config.train < DIGITS - config.test < DIGITS:
        raise ValueError(
            f"config.train is {config.train} and config.test {config.test} of {DIGITS} "
            "images"
        )
    at, draw = functools.partial(_run, config), functools.partial(_draw, config)
    settings = {NONE: (1.0, 1.0)} | dict(config.settings)
    arms = {}
    for name, (eta, gamma) in settings.items():
        values = {"eta": eta, "gamma": gamma, "weighted": float(name != NONE)}
        arms[name] = dataclasses.replace(at(values), data=draw, values=values, at=at)
    labels = {
        name: "no weight" if name == NONE else f"η = {eta:g}, γ = {gamma:g}"
        for name, (eta, gamma) in settings.items()
    }
    ticks = [label.replace(", ", "\n") for label in labels.values()]

    def accuracy(metric, label):
        return report.intervals(
            {"digits": list(arms)}, ticks, metric, label=label, across="weight"
        )

    return Study(
        arms=arms,
        figures={
            "rare": accuracy(RARE, "accuracy on the rare cluster"),
            "all": accuracy(ALL, "accuracy on all test images"),
            "gain": report.differences(
                RARE,
                NONE,
                scale=100,
                label="points on the rare cluster, over no weight",
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Weights for images that look unlike the others",
        summary=(
            f"Digits in {config.clusters} clusters of their pixels (k-means). One of "
            f"them, another one for each seed, makes {config.share:.0%} of "
            f"{config.train} training images; {config.test} test images hold it as "
            f"often as it is. An MLP of widths {', '.join(map(str, config.widths))}, "
            f"{config.steps} steps of Adam, {config.seeds} seeds. A likelihood is the "
            "share of an image's cluster in training."
        ),
        captions={
            "rare": "Test images of the cluster that is rare in training.",
            "all": "The whole test set.",
            "gain": "The same start, images and batches with a weight and without.",
        },
    )


@functools.cache
def clusters(many: int) -> np.ndarray:
    """The cluster of each digit's image, [1797]."""
    from sklearn.cluster import KMeans

    x, _ = digits()
    return KMeans(many, n_init=5, random_state=0).fit_predict(x).astype(np.int32)


def _draw(config, key):
    """Training images with few of one cluster, and test images with all there are."""
    pick_key, order_key = jax.random.split(key)
    (x, y), groups = images(), jnp.asarray(clusters(config.clusters))
    rare = jax.random.randint(pick_key, (), 0, config.clusters)
    order = jax.random.permutation(order_key, DIGITS)
    test, rest = order[: config.test], order[config.test :]
    mine = groups[rest] == rare
    few = max(1, round(config.share * config.train))
    seen = rest[jnp.argsort(~mine, stable=True)][:few]  # of the cluster
    others = rest[jnp.argsort(mine, stable=True)][: config.train - few]
    train = jnp.concatenate([seen, others])
    likelihood = weights.cluster_likelihood(groups[train], config.clusters)
    return {
        "train": {"x": x[train], "y": y[train], "likelihood": likelihood},
        "test": {"x": x[test], "y": y[test], "rare": groups[test] == rare},
    }


def _run(config, values) -> Run:
    model = models.MLP(widths=config.widths, classes=10)

    def logits(params, batch):
        return model.apply({"params": params}, batch["x"])

    def loss(params, batch, key):
        del key
        found = losses.cross_entropy(logits(params, batch), batch["y"])
        weight = weights.dequity_weight(
            batch["likelihood"], eta=values["eta"], gamma=values["gamma"]
        )
        return found * jnp.where(values["weighted"] > 0, weight, 1)

    def evaluate(params, data):
        test = data["test"]
        z = logits(params, test)
        return {
            ALL: metrics.accuracy(z, test["y"]),
            RARE: metrics.accuracy(z, test["y"], mask=test["rare"]),
        }

    return Run(
        init=lambda key: model.init(key, jnp.zeros((1, 64)))["params"],
        loss=loss,
        data={},
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        show=(RARE,),
    )


def _claims(config):
    bounds, released = config.tolerances, config.released
    strongest = config.strongest

    def gap(text, metric, arm, **claim):
        return ahead(
            text, metric, arm, NONE, scale=100, over="mean", unit="points", **claim
        )

    return [
        gap("the released setting helps the rare cluster", RARE, released,
            above=bounds.rare, reference=stated("rare appearances gain")),
        gap("and leaves the accuracy of all within a point", ALL, released,
            at_least=-bounds.all, at_most=bounds.all,
            reference=stated("the others do not suffer")),
        gap("a weight that goes down to 0 helps the rare cluster", RARE, strongest,
            above=bounds.rare, reference=BOUND),
        gap("and leaves the accuracy of all within a point", ALL, strongest,
            at_least=-bounds.all, at_most=bounds.all, reference=BOUND),
    ]  # fmt: skip
