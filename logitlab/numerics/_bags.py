"""Sums over bags: examples that share an id."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics._checks import check_mask, wide_labels


def check_bag_ids(
    ids: ArrayLike,
    shape: tuple[int, ...],
    bags: int,
    mask: ArrayLike | None = None,
    name: str = "segment_ids",
) -> tuple[jax.Array, jax.Array]:
    """The bag of each example, and which examples are in one.

    What is in no bag has the id 0, and adds nothing to the first.

    Raises:
      TypeError: ``ids``, called ``name`` in the message, is not integer, or ``mask``
        not bool.
      ValueError: one of them has another shape.
    """
    y = wide_labels(ids, name)
    if y.shape != shape:
        raise ValueError(f"{name} has shape {y.shape}, expected {shape}")
    keep = (y >= 0) & (y < bags) & check_mask(mask, shape)
    return jnp.where(keep, y, 0), keep


def bag_sizes(ids: jax.Array, keep: jax.Array, bags: int, dtype) -> jax.Array:
    """Number of examples in each bag, at least 1 to divide by."""
    count = jax.ops.segment_sum(keep.astype(jnp.int32), ids, bags)
    return jnp.maximum(count, 1).astype(dtype)


def bag_means(x: jax.Array, ids: jax.Array, keep: jax.Array, bags: int) -> jax.Array:
    """Mean over each bag, 0 for one without examples.

    Shapes: x [N, ...], ids [N], keep [N] -> [bags, ...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics._bags import bag_means, check_bag_ids
    >>> ids = jnp.array([0, 0, 1])
    >>> bag_means(jnp.float32([1, 3, 5]), *check_bag_ids(ids, (3,), 2), 2)
    Array([2., 5.], dtype=float32)
    """
    keep = keep.reshape(keep.shape[:1] + (1,) * (x.ndim - 1))
    size = bag_sizes(ids, keep.reshape(-1), bags, x.dtype)[ids].reshape(keep.shape)
    return jax.ops.segment_sum(jnp.where(keep, x / size, 0), ids, bags)
