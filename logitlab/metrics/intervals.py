"""Coverage of prediction intervals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["coverage"]


def coverage(
    pred: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Share of the targets at or below each predicted quantile.

    Use it to check quantiles: each should have its own level as share.

    .. math:: \frac{1}{n} \sum_i [y_i \le q_{ij}]

    It should be the level; the mean of the absolute differences is the calibration
    error.

    Shapes: pred [..., Q], target [...], mask [...] -> [Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import coverage
    >>> coverage(jnp.float32([[0, 2], [0, 4]]), jnp.float32([1, 3]))
    Array([0., 1.], dtype=float32)
    """
    q, y = _quantiles(pred), numerics.promote_to_float32(target, "target")
    if y.shape != q.shape[:-1]:
        raise ValueError(f"target has shape {y.shape}, expected {q.shape[:-1]}")
    under = (y[..., None] <= q).astype(q.dtype).reshape(-1, q.shape[-1])
    if mask is not None:
        mask = jnp.asarray(mask).reshape(-1)
    return jax.vmap(lambda column: numerics.masked_mean(column, mask), 1)(under)


def _quantiles(pred):
    q = numerics.promote_to_float32(pred, "pred")
    if q.ndim == 0 or q.shape[-1] == 0:
        raise ValueError(f"pred has shape {q.shape}, expected at least one quantile")
    return q
