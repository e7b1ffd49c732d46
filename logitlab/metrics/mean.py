"""Sums and counts, divided once at the end, and the metrics every run logs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics


class Mean(NamedTuple):
    """Mean kept as a sum and a count, so that it merges and is divided once.

    A mean of means is wrong on the last batch and on every device. ``Mean`` is a pytree
    of two arrays, so ``psum``, ``scan`` and ``jax.tree.map(jnp.add, a, b)`` merge it;
    NumPy and ``float`` read it as the quotient. Counts are integers, which in float32
    would stand still at 2^24: int32, so less than 2^31 of them, or int64 under x64.

    >>> from logitlab.metrics import Mean
    >>> total = Mean(3.0, 3) + Mean(0.0, 1)
    >>> float(total)
    0.75
    """

    sum: Any
    count: Any

    def __add__(self, other):
        """Merges two means of the same quantity."""
        if not isinstance(other, Mean):
            return NotImplemented
        return Mean(self.sum + other.sum, self.count + other.count)

    @property
    def value(self):
        """Sum over count; NaN where nothing was counted."""
        return jnp.asarray(self.sum) / self.count

    def __float__(self):
        return float(self.value)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)


def mean_of(values: ArrayLike, mask: ArrayLike | None = None) -> Mean:
    """Counts up one number (or bool) per example; ``mask`` selects the examples.

    Shapes: values [...], mask [...] -> ([], [])

    Returns:
      A :class:`Mean`; its sum is an integer for bools, otherwise float32 (float64 for
      float64 values, and for integers under x64).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mean_of
    >>> mean_of(jnp.array([True, False, True]))
    Mean(sum=Array(2, dtype=int32), count=Array(3, dtype=int32))
    """
    if not isinstance(values, jax.Array):
        values = np.asarray(values)  # which keeps 64 bits, with or without x64
    mask = numerics.check_mask(mask, values.shape)
    if values.dtype == bool:
        return Mean((values & mask).sum(), mask.sum())
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(float)
    values = numerics.promote_to_float32(values, "values")
    return Mean(jnp.where(mask, values, 0).sum(), mask.sum())


def accuracy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    """Share of examples whose top class is the label; the first of equals is the top.

    Shapes: logits [..., C], labels [...], where [..., C] -> ([], [])

    Args:
      logits: scores of any dtype; a row with a NaN is wrong whatever its label.
      labels: ints in ``[0, C)``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer.
      ValueError: the shapes disagree.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import accuracy
    >>> float(accuracy(jnp.float32([[1, 2], [3, 0]]), jnp.array([1, 1])))
    0.5
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    labels = numerics.wide_labels(labels)
    if labels.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {labels.shape}, expected {z.shape[:-1]}")
    right = (z.argmax(-1) == labels) & ~jnp.isnan(z).any(-1)
    return mean_of(right, mask)


def tree_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all arrays of a pytree; immune to overflow of the squares.

    Parameters of 1e25 and gradients of 1e-25 are ordinary in the studies here, and
    their float32 squares are not representable.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import tree_norm
    >>> print(f"{tree_norm({'a': jnp.float32([3e25]), 'b': jnp.float32([4e25])}):.3g}")
    5e+25
    """
    leaves = [
        numerics.promote_to_float32(a, "tree")
        for a in jax.tree.leaves(tree)
        if jnp.size(a)
    ]
    if not leaves:
        return jnp.zeros(())
    top = jnp.stack([jnp.abs(a).max() for a in leaves]).max()
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return scale * jnp.sqrt(sum(((a / scale) ** 2).sum() for a in leaves))
