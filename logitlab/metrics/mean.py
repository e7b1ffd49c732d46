"""Sums and counts, divided once at the end, and the metrics every run logs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics


class Mean(NamedTuple):
    """A mean on its way: sums and counts add up, whoever reports divides once.

    A mean of means is wrong on the last batch and on every device. ``Mean`` is a pytree
    of two arrays, so ``psum``, ``scan`` and ``jax.tree.map(jnp.add, a, b)`` merge it;
    NumPy and ``float`` read it as the quotient.

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

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> mean_of(jnp.array([True, False, True]))
    Mean(sum=Array(2., dtype=float32), count=Array(3., dtype=float32))
    """
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.float32)
    values = numerics.promote(values, "values")
    mask = numerics.kept(mask, values.shape)
    return Mean(jnp.where(mask, values, 0).sum(), mask.sum(dtype=values.dtype))


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

    >>> float(accuracy(jnp.float32([[1, 2], [3, 0]]), jnp.array([1, 1])))
    0.5
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {labels.dtype}, expected integers")
    if labels.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {labels.shape}, expected {z.shape[:-1]}")
    right = (z.argmax(-1) == labels) & ~jnp.isnan(z).any(-1)
    return mean_of(right, mask)


def tree_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all arrays of a pytree; immune to overflow of the squares.

    Parameters of 1e25 and gradients of 1e-25 are ordinary in the studies here, and
    their float32 squares are not representable.

    >>> print(f"{tree_norm({'a': jnp.float32([3e25]), 'b': jnp.float32([4e25])}):.3g}")
    5e+25
    """
    leaves = [numerics.promote(a, "tree") for a in jax.tree.leaves(tree) if jnp.size(a)]
    if not leaves:
        return jnp.zeros(())
    top = jnp.stack([jnp.abs(a).max() for a in leaves]).max()
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return scale * jnp.sqrt(sum(((a / scale) ** 2).sum() for a in leaves))
