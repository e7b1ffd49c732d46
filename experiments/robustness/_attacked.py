"""What studies of training against attacks share: digits, and how they are tested."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.common import datasets
from logitlab import attacks, metrics, models
from logitlab.train import Run

CLASSES, PIXELS = 10, 64


def drawing(train: int) -> Callable[[jax.Array], dict]:
    """key -> digits to learn from, and the others to test."""
    datasets.check_train(train)
    x, y = datasets.digits(centered=False)

    def draw(key):
        rows = datasets.divide(key, jnp.float32(x), jnp.int32(y), train)
        return {
            "train": {"x": rows.x, "y": rows.y},
            "test": {"x": rows.test_x, "y": rows.test_y},
        }

    return draw


def network(config) -> models.MLP:
    """The network that all arms train."""
    return models.MLP(widths=tuple(config.widths), classes=CLASSES)


def attacked_run(
    config,
    draw: Callable,
    loss: Callable,
    *,
    tested: Mapping[str, tuple[Any, float]],
    take: Callable = lambda params: params,
    init: Callable = lambda params: params,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """A run whose network is tested by Auto-PGD in several norms.

    Args:
      config: has ``widths``, ``learning_rate``, ``steps``, ``batch_size`` and
        ``test_steps``.
      draw: as :func:`drawing` makes it.
      loss: (params, batch, key) -> losses [B].
      tested: name -> norm and radius; what is left is called "robust/" and that name,
        and what is left of all of them "robust/union".
      take: params -> those of the network to test.
      init: parameters of a network -> params.
      optimizer: Adam by default.
    """
    model = network(config)

    def evaluate(params, data):
        x, y = data["test"]["x"], data["test"]["y"]

        def logits_fn(x):
            return model.apply({"params": take(params)}, x)

        broken = {
            name: attacks.apgd(
                logits_fn, x, y, eps=eps, norm=norm, steps=config.test_steps
            ).broken
            for name, (norm, eps) in tested.items()
        }
        return {
            "accuracy": metrics.accuracy(logits_fn(x), y),
            **{f"robust/{name}": metrics.mean_of(~b) for name, b in broken.items()},
            "robust/union": metrics.union_accuracy(jnp.stack(list(broken.values()))),
        }

    return Run(
        init=lambda key: init(model.init(key, jnp.zeros((1, PIXELS)))["params"]),
        loss=loss,
        data=draw,
        optimizer=optimizer or optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        show=("accuracy", "robust/union"),
    )
