"""What the studies of embeddings share: digits by class, and the run of a network."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import digits
from logitlab import metrics, models, targets, transforms
from logitlab.train import Run


def classes_of_digits(classes) -> tuple[np.ndarray, np.ndarray]:
    """The images of some digits, and the places of these digits in ``classes``."""
    x, y = digits()
    rows = np.isin(y, classes)
    place = np.full(10, -1)
    place[list(classes)] = range(len(classes))
    return x[rows].astype(np.float32), place[y[rows]].astype(np.int32)


def embedding_run(
    config,
    objective: Callable,
    *,
    data: Any,
    classes: int,
    evaluate: Callable,
    show: tuple[str, ...],
    values: Mapping | None = None,
    at: Callable | None = None,
) -> Run:
    """The run of a network whose outputs are embeddings.

    Args:
      config: has ``widths``, ``dim``, ``learning_rate``, ``steps`` and ``batch_size``.
      objective: (embeddings [B, D], labels [B], kernel [D, C]) -> (losses [B], counts
        [B]); a step descends the sum of the losses over the sum of the counts. The
        kernel, of weights or proxies, trains along; most objectives ignore it.
      data: as :class:`Run` takes it; parts have ``x`` and ``y``.
      classes: C.
      evaluate: (embed, params, parts) -> metrics; ``embed(params, x)`` -> embeddings.
      show: the metrics that the progress shows.
      values: floats in which runs of one program differ.
      at: ``values`` -> run, see :class:`Run`.
    """
    model = models.MLP(widths=tuple(config.widths), classes=config.dim)

    def init(key):
        net_key, kernel_key = jax.random.split(key)
        kernel = jax.random.normal(kernel_key, (config.dim, classes))
        net = model.init(net_key, jnp.zeros((1, 64)))["params"]
        return {"net": net, "kernel": kernel / config.dim**0.5}

    def embed(params, x):
        return model.apply({"params": params["net"]}, x)

    def loss(params, batch, key):
        del key
        each, counts = objective(
            embed(params, batch["x"]), batch["y"], params["kernel"]
        )
        return each, jnp.broadcast_to(counts, each.shape).astype(jnp.int32)

    return Run(
        init=init,
        loss=loss,
        data=data,
        optimizer=optax.adam(config.learning_rate),
        evaluate=lambda params, parts: evaluate(embed, params, parts),
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(0, config.steps),
        show=show,
        **({} if values is None else {"values": values, "at": at}),
    )


def first(mean: metrics.Mean) -> metrics.Mean:
    """The first of several means."""
    return metrics.Mean(mean.sum[0], mean.count)


def separation(prefix: str, embeddings, labels) -> dict:
    """Recall at 1, and how far positive and negative pairs overlap."""
    similarities = transforms.cosine_similarities(embeddings)
    pairs = targets.label_pairs(labels)
    return {
        f"{prefix}/recall": first(metrics.recall_at_k(embeddings, labels, ks=(1,))),
        f"{prefix}/overlap": metrics.pair_overlap(similarities, pairs),
        f"{prefix}/gap": metrics.wdfs_gap(similarities, pairs),
    }
