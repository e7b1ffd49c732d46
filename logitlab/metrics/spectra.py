"""Singular values of matrices of logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["nuclear_norm"]


def nuclear_norm(
    logits: ArrayLike, *, center: bool = False, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Sum of the singular values of each matrix: large where its rows are many things.

    Of the logits of a sequence it says how much there is to learn from it: it grows
    with their size and with the number of directions that they take.

    .. math:: \|X\|_* = \sum_k \sigma_k(X)

    Shapes: logits [..., T, V], mask [..., T] -> [...]

    Args:
      logits: a matrix of rows for each example. They are taken as they are: a constant
        c added to all of them adds up to :math:`|c| \sqrt{T V}`.
      center: whether each row's mean is subtracted first.
      mask: bool, the rows that count.

    Returns:
      In the unit of the logits, float32 (float64 for float64 logits); 0 without rows.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: ``logits`` has fewer than two axes, or the shapes disagree.

    Numerics: relative error below 1e-5. Eigenvalues of :math:`X X^T`, which are faster,
      are not good enough: rounding makes 512 rows of rank one 1.2 % larger.

    Source: UDS, 2025, arXiv:2510.16882.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import nuclear_norm
    >>> print(f"{nuclear_norm(jnp.float32([[3, 0], [0, -4]])):.4f}")
    7.0000
    """
    x = numerics.promote_to_float32(logits, "logits")
    if x.ndim < 2:
        raise ValueError(f"logits has shape {x.shape}, expected [..., T, V]")
    keep = numerics.check_mask(mask, x.shape[:-1])
    if x.size == 0:
        return jnp.zeros(x.shape[:-2], x.dtype)
    x = jnp.where(keep[..., None], x, 0)
    if center:
        x -= jnp.mean(x, -1, keepdims=True)
    return jnp.sum(jnp.linalg.svd(x, compute_uv=False), -1)
