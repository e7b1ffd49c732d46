"""Ridge regression from bag means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.aggregate import _at_least_one, _check_rho
from logitlab.numerics._bags import bag_means, bag_sizes, check_bag_ids
from logitlab.numerics.arguments import hyper

__all__ = ["aggregate_ridge"]


def aggregate_ridge(
    x: ArrayLike, bag_ids: ArrayLike, bag_y: ArrayLike, rho: ArrayLike
) -> jax.Array:
    r"""Least-squares weights of the interpolated loss, in closed form.

    .. math:: \theta = \Big[(1 - \rho) \bar X^T \bar X +
        \rho \sum_a \frac{1}{k_a} \sum_{i \in B_a} x_i x_i^T\Big]^+ \bar X^T \bar y

    Shapes: x [N, D], bag_ids [N], bag_y [B] -> [D]

    Returns:
      The minimiser of the squared ``interpolated_aggregate_loss``, the shortest one if
      there are several; float32 (float64 for float64 features).

    Raises:
      TypeError: ``x`` or ``bag_y`` is not floating point, ``bag_ids`` not integer.
      ValueError: wrong shapes, or ``rho`` outside [0, 1].

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import aggregate_ridge
    >>> x = jnp.float32([[1], [3]])
    >>> aggregate_ridge(x, jnp.array([0, 0]), jnp.float32([4]), 0.0).round(4)
    Array([2.], dtype=float32)
    """
    _check_rho(rho)
    x, y = (
        numerics.promote_to_float32(x, "x"),
        numerics.promote_to_float32(bag_y, "bag_y"),
    )
    rho = hyper("rho", rho, x.dtype)
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, expected two axes")
    if y.ndim != 1:
        raise ValueError(f"bag_y has shape {y.shape}, expected one axis")
    ids, keep = check_bag_ids(bag_ids, x.shape[:1], y.shape[0], name="bag_ids")
    y = _at_least_one(y)
    bags = y.shape[0]
    mean = bag_means(x, ids, keep, bags)
    full = jnp.any(bag_means(jnp.ones_like(x[:, :1]), ids, keep, bags) > 0, -1)
    share = keep / bag_sizes(ids, keep, bags, x.dtype)[ids]
    y = jnp.where(full, y, 0).astype(x.dtype)
    within = jnp.einsum("n,nd,ne->de", share.astype(x.dtype), x, x)
    system = (1 - rho) * mean.T @ mean + rho * within
    return jnp.linalg.pinv(system, hermitian=True) @ (mean.T @ y)
