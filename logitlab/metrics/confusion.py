"""Soft confusion counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import binary

__all__ = ["soft_confusion"]


def soft_confusion(
    probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    r"""Counts of a confusion matrix in which a decision may be fractional.

    .. math:: TP = \sum t q, \quad FN = \sum t (1 - q), \quad FP = \sum (1 - t) q,
        \quad TN = \sum (1 - t)(1 - q)

    Shapes: probs [...], labels [...], where [...] -> [], [], [], []

    Args:
      probs: q, the decisions.
      labels: 0 and 1.
      where: bool, the examples that are counted.

    Returns:
      ``(tn, fp, fn, tp)``, the order of scikit-learn, float32 (float64 for float64).

    Raises:
      TypeError: ``probs`` is not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or a label is neither 0 nor 1; under ``jit``, where
        values are unknown, such a label gives NaN.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import soft_confusion
    >>> tn, fp, fn, tp = soft_confusion(jnp.float32([0.75, 0.25]), jnp.array([1, 1]))
    >>> fn, tp
    (Array(1., dtype=float32), Array(1., dtype=float32))
    """
    q = numerics.promote_to_float32(probs, "probs")
    keep = _mask(where, q.shape, "where")
    t = _binary(labels, q, keep)
    q = jnp.where(keep, q, 0)
    return _counts(q, 1 - q, t, keep, tuple(range(q.ndim)))


def _counts(q, not_q, t, keep, axes):
    terms = ((1 - t) * not_q, (1 - t) * q, t * not_q, t * q)
    return tuple(jnp.where(keep, term, 0).sum(axes) for term in terms)


def _binary(labels, z, keep):
    t, bad = binary(labels, z.shape, z.dtype, keep)
    return jnp.where(bad, jnp.nan, t)


def _mask(mask, shape, name, broadcast=False):
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected bool")
    if broadcast and mask.ndim != len(shape):  # [N] would pass for [C]
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}")
    if broadcast:
        try:
            return jnp.broadcast_to(mask, shape)
        except ValueError:
            pass
    if mask.shape != shape[: mask.ndim] or (shape and not mask.ndim):
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}")
    mask = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
    return jnp.broadcast_to(mask, shape)
