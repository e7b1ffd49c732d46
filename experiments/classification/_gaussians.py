"""Two Gaussians of which one is rare, and linear models that tell them apart.

Positives are shifted by one standard deviation in the first two features, so no model
knows more than their sum. Training and test rows are drawn anew for each seed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from logitlab import metrics
from logitlab.train import Run

SHIFTED = 2
METRICS = ("f1", "balanced", "accuracy", "recall", "precision")


def check(config) -> None:
    """Refuses rates without positives, and too few features for the shift."""
    for rate in config.rates:
        if not 0 < rate < 1:
            raise ValueError(f"config.rates has {rate}, expected rates in (0, 1)")
    if config.features < SHIFTED:
        raise ValueError(
            f"config.features is {config.features}, expected {SHIFTED} or more"
        )


def arm_name(method: str, rate: float) -> str:
    """Name of the arm of a method at a share of positives."""
    return f"{method}_{100 * rate:g}"


def draw(config, rate: float, key: jax.Array) -> dict:
    """Rows for training and for the test, of which a share is positive."""

    def rows(key, many):
        x_key, y_key = jax.random.split(key)
        y = (jax.random.uniform(y_key, (many,)) < rate).astype(jnp.int32)
        x = jax.random.normal(x_key, (many, config.features))
        return {
            "x": x + y[:, None] * (jnp.arange(config.features) < SHIFTED)[None],
            "y": y,
        }

    train_key, test_key = jax.random.split(key)
    return {"train": rows(train_key, config.train), "test": rows(test_key, config.test)}


def run(config, loss_of: Callable, data: Callable) -> Run:
    """Trains a linear model.

    Args:
      config: of the study.
      loss_of: (scores [B], labels [B]) -> losses [B], or one number for all of them.
      data: see :func:`draw`.
    """

    def scores(params, x):
        return x @ params["w"] + params["b"]

    def loss(params, batch, key):
        del key
        found = loss_of(scores(params, batch["x"]), batch["y"])
        return jnp.broadcast_to(found, batch["y"].shape)

    def evaluate(params, data):
        train, test = data["train"], data["test"]
        mine, s = scores(params, train["x"]), scores(params, test["x"])
        found = confusion(s > 0, test["y"])
        tuned = confusion(s >= best_threshold(mine, train["y"]), test["y"])
        return found | {"tuned/f1": tuned["f1"]}

    return Run(
        init=lambda key: {"w": jnp.zeros(config.features), "b": jnp.zeros(())},
        loss=loss,
        data=data,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        show=("f1",),
    )


def confusion(positive: jax.Array, labels: jax.Array) -> dict:
    """Numbers of binary decisions; 0 where nothing is positive that has to be.

    Shapes: positive [N], labels [N] -> [], each
    """
    t = labels == 1
    hits, misses = jnp.sum(positive & t), jnp.sum(~positive & t)
    alarms, rests = jnp.sum(positive & ~t), jnp.sum(~positive & ~t)

    def share(part, whole):
        return part / jnp.maximum(whole, 1)

    return {
        "f1": share(2 * hits, 2 * hits + misses + alarms),
        "balanced": (share(hits, hits + misses) + share(rests, rests + alarms)) / 2,
        "accuracy": metrics.mean_of(positive == t),
        "recall": share(hits, hits + misses),
        "precision": share(hits, hits + alarms),
    }


def best_threshold(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """The score from which on positives have the largest F1.

    Shapes: scores [N], labels [N] -> []
    """
    order = jnp.argsort(-scores)
    hits = jnp.cumsum(labels[order])
    f1 = 2 * hits / (jnp.arange(1, len(labels) + 1) + jnp.sum(labels))
    return scores[order][jnp.argmax(f1)]
