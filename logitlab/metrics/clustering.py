"""Accuracy of a clustering under the best assignment to classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["clustering_accuracy"]


def clustering_accuracy(labels: ArrayLike, pred: ArrayLike) -> jax.Array:
    """Accuracy under the best one-to-one renaming of the clusters.

    Runs on the host's values: the numbers of classes and clusters are read off them.

    Shapes: labels [N], pred [N] -> []

    Raises:
      TypeError: an argument is not integer.
      ValueError: the shapes differ, nothing to compare, or a negative integer.

    Source: Hungarian matching, Kuhn 1955; used by arXiv:1704.06327.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import clustering_accuracy
    >>> clustering_accuracy(jnp.array([0, 0, 1]), jnp.array([1, 1, 0]))
    Array(1., dtype=float32)
    """
    import optax  # here, because no other metric needs it

    y, c = numerics.wide_labels(labels), numerics.wide_labels(pred, "pred")
    if y.shape != c.shape or y.ndim != 1 or y.size == 0:
        raise ValueError(f"labels, pred have shapes {y.shape}, {c.shape}, expected [N]")
    if min(y.min(), c.min()) < 0:
        raise ValueError("labels, pred hold negative integers")
    size = int(max(y.max(), c.max())) + 1
    table = jnp.zeros((size, size)).at[c, y].add(1.0)
    rows, columns = optax.assignment.hungarian_algorithm(-table)
    return table[rows, columns].sum() / y.size
