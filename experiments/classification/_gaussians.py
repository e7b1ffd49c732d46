"""Two Gaussians of which one is rare, and linear models that tell them apart.

Positives are shifted by one standard deviation in the first two features, so no model
knows more than their sum. Each step of training draws
its own rows.
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
    """Rows to choose a threshold by and rows to test; training draws its own."""
    tuning_key, test_key = jax.random.split(key)
    return {
        "train": {"rate": jnp.full(config.batch_size, rate)},
        "tuning": rows(tuning_key, rate, config.tuning, config.features),
        "test": rows(test_key, rate, config.test, config.features),
    }


def rows(key: jax.Array, rate, many: int, features: int) -> dict[str, jax.Array]:
    """Rows ``x`` of which a share, those with a 1 in ``y``, is positive."""
    x_key, y_key = jax.random.split(key)
    y = (jax.random.uniform(y_key, (many,)) < rate).astype(jnp.int32)
    shift = jnp.float32(jnp.arange(features) < SHIFTED)
    x = jax.random.normal(x_key, (many, features)) + y[:, None] * shift[None]
    return {"x": x, "y": y}


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
        new = rows(key, batch["rate"], config.batch_size, config.features)
        found = loss_of(scores(params, new["x"]), new["y"])
        return jnp.broadcast_to(found, (config.batch_size,))

    def evaluate(params, data):
        tuning, test = data["tuning"], data["test"]
        mine, s = scores(params, tuning["x"]), scores(params, test["x"])
        found = confusion(s > 0, test["y"])
        tuned = confusion(s >= best_threshold(mine, tuning["y"]), test["y"])
        return found | {"tuned/f1": tuned["f1"]}

    return Run(
        init=lambda key: {"w": jnp.zeros(config.features), "b": jnp.zeros(())},
        loss=loss,
        data=data,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
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


def tuned_lead(name, rate, other, results):
    """F1 of a loss whose threshold was chosen, above that of another at zero."""
    mine = results[arm_name(name, rate)].final("tuned/f1")
    return mine - results[arm_name(other, rate)].final("f1")
