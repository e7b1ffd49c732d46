"""Derivatives of the random convex losses of EnsLoss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = ["ensloss_derivatives"]


def ensloss_derivatives(
    margins: ArrayLike,
    key: jax.Array | None,
    *,
    lam: ArrayLike = 0.0,
    floor: ArrayLike = -1.0,
    eps: ArrayLike = 1e-6,
    normal_draws: ArrayLike | None = None,
) -> jax.Array:
    r"""Derivatives of a random convex calibrated loss at these margins.

    .. math:: r = \mathrm{sort}(\max(-e_i, \mathrm{floor})), \quad
        e_i = (1 + \lambda u_i)_+^{1/\lambda}, \; u_i \sim N(0, 1)

    The smallest derivative goes to the smallest margin (convexity), is divided by a
    margin above 1 (a slow tail), and lowered by ``eps`` (calibration). They get no
    gradient. ``losses.ensloss`` multiplies them with binary margins,
    ``losses.multiclass_ensloss`` with those of classes.

    Shapes: margins [..., N] -> [..., N]

    Args:
      margins: signed scores, positive where the prediction is right.
      key: of ``jax.random``; not used with ``normal_draws``.
      lam: Box-Cox parameter, :math:`e_i = \exp(u_i)` for 0. May be traced.
      floor: the steepest derivative, negative.
      eps: at least 0.
      normal_draws: standard normal numbers of the margins' shape in place of ``key``.

    Raises:
      ValueError: ``floor`` not negative, ``eps`` negative, or draws of another shape.

    Source: EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import ensloss_derivatives
    >>> draws = jnp.float32([-1, 0])
    >>> ensloss_derivatives(jnp.float32([0.5, -1]), None, normal_draws=draws)
    Array([-0.36788046, -1.000001  ], dtype=float32)
    """
    check_range("floor", floor, lambda f: f < 0, "negative")
    check_range("eps", eps, lambda e: e >= 0, "at least 0")
    m = numerics.promote_to_float32(margins, "margins")
    keep = jnp.ones(m.shape, bool)
    return _derivatives(m, key, normal_draws, keep, lam, floor, eps)


def _derivatives(margins, key, draws, keep, lam, floor, eps):
    m, keep = (
        numerics.unsharded(jax.lax.stop_gradient(margins), -1),
        numerics.unsharded(keep, -1),
    )
    if draws is None:
        draws = jax.random.normal(key, m.shape, jnp.float32)
    u = numerics.unsharded(jnp.asarray(draws).astype(m.dtype), -1)
    if u.shape != m.shape:
        raise ValueError(f"normal_draws has shape {u.shape}, expected {m.shape}")
    lam = hyper("lam", lam, m.dtype)
    floor, eps = hyper("floor", floor, m.dtype), hyper("eps", eps, m.dtype)
    base = 1 + lam * u
    inside = (base > 0) & (lam != 0)
    curved = jnp.log(jnp.where(inside, base, 1)) / jnp.where(inside, lam, 1)
    outside = jnp.where(lam < 0, jnp.inf, -jnp.inf)
    log_e = jnp.where(lam == 0, u, jnp.where(inside, curved, outside))
    r = jnp.maximum(-jnp.exp(log_e), floor)
    # Examples left out go to the end of both queues, where they meet each other.
    r = jnp.sort(jnp.where(keep, r, jnp.inf), -1)
    place = jnp.argsort(jnp.argsort(jnp.where(keep, m, jnp.inf), -1), -1)
    g = jnp.take_along_axis(r, place, -1)
    g = jnp.where(keep, g / jnp.where(m > 1, m, 1), 0)
    return jax.lax.stop_gradient(g) - eps
