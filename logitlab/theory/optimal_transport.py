"""Bounds on the Gromov-Wasserstein distance of sorted logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["sorted_gw_bounds"]


def sorted_gw_bounds(a: ArrayLike, b: ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""Bounds of the Gromov-Wasserstein distance of two graphs, from sorted degrees.

    .. math:: \frac1n \sum_i (f^a_{(i)} - f^b_{(i)})^2 \le GW^2 \le
        \frac{1}{n^2} \sum_{ij} (A_{\pi_i \pi_j} - B_{\rho_i \rho_j})^2

    with uniform node weights, degrees :math:`f_i = \frac1n \sum_j A_{ij}` and the
    permutations that sort them.

    Shapes: a [N, N], b [N, N] -> [], []

    Raises:
      TypeError: a matrix is not floating point.
      ValueError: they are not square, or of different size.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import sorted_gw_bounds
    >>> sorted_gw_bounds(jnp.eye(2), jnp.zeros((2, 2)))
    (Array(0.25, dtype=float32), Array(0.5, dtype=float32))
    """
    a, b = numerics.promote_to_float32(a, "a"), numerics.promote_to_float32(b, "b")
    if a.ndim != 2 or a.shape[0] != a.shape[1] or b.shape != a.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}, expected [N, N] of both")
    ordered = []
    for m in (a, b):
        at = jnp.argsort(m.mean(-1))
        ordered.append(m[at][:, at])
    a, b = ordered
    return jnp.mean((a.mean(-1) - b.mean(-1)) ** 2), jnp.mean((a - b) ** 2)
