"""Quantile regression: losses, combination, ordering and calibration of quantiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.intervals import _quantiles
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "crossing_penalty",
    "huber_pinball_loss",
    "interval_score",
    "pinball_loss",
    "weighted_interval_score",
]


def pinball_loss(pred: ArrayLike, target: ArrayLike, levels: ArrayLike) -> jax.Array:
    r"""Pinball (quantile) loss of each quantile.

    Use it when you predict quantiles.

    .. math:: \max(\tau e, (\tau - 1) e), \quad e = y - q

    Shapes: pred [..., Q], target [...], levels [Q] -> [..., Q]

    Args:
      pred: the quantiles q.
      target: y.
      levels: tau, in (0, 1).

    Returns:
      One number per quantile, in units of ``target``, float32 (float64 for float64
      ``pred``). At a tie the slope is that of e above 0.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or a level is outside (0, 1).

    Numerics: relative error below 1e-6 of the error e; finite slopes everywhere.

    Source: Koenker and Bassett 1978; Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pinball_loss
    >>> pinball_loss(jnp.float32([0, 2]), 1.0, jnp.float32([0.25, 0.75]))
    Array([0.25, 0.25], dtype=float32)
    """
    q, y, tau = _prepare(pred, target, levels)
    e = y - q
    return jnp.where(e >= 0, tau * e, (tau - 1) * e)


def huber_pinball_loss(
    pred: ArrayLike, target: ArrayLike, levels: ArrayLike, *, width: ArrayLike
) -> jax.Array:
    r"""Pinball loss with a parabola around zero error.

    Use it when you predict quantiles and want a smooth kink.

    .. math:: |\tau - [e < 0]| \, H_a(e) / a, \quad H_a(e) = \begin{cases} e^2 / 2 &
        |e| \le a \\ a (|e| - a / 2) & \text{else} \end{cases}

    Shapes: pred [..., Q], target [...], levels [Q] -> [..., Q]

    Args:
      pred: the quantiles q.
      target: y; e is y - q.
      levels: tau, in (0, 1).
      width: a, above 0.

    Returns:
      One number per quantile, in units of ``target``, float32 (float64 for float64
      ``pred``).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, a level is outside (0, 1), or ``width`` is not
        positive.

    Numerics: relative error below 1e-6 of the error e; finite slopes everywhere.

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import huber_pinball_loss
    >>> huber_pinball_loss(jnp.float32([0]), 1.0, jnp.float32([0.5]), width=0.1)
    Array([0.475], dtype=float32)
    """
    q, y, tau = _prepare(pred, target, levels)
    width = hyper("width", width, q.dtype, lambda v: v > 0, "a number above 0")
    e = y - q
    size = jnp.abs(e)
    near = size <= width
    small = jnp.where(near, e, 0)
    huber = jnp.where(near, small * small / (2 * width), size - width / 2)
    return jnp.where(e >= 0, tau, 1 - tau) * huber


def interval_score(pred: ArrayLike, target: ArrayLike, levels: ArrayLike) -> jax.Array:
    r"""Interval score of each pair of symmetric quantiles.

    Use it when you judge intervals by width and misses.

    .. math:: (u - l) + \frac{2}{\alpha} (l - y)_+ + \frac{2}{\alpha} (y - u)_+, \quad
        \alpha = 2 \tau_l

    Pair i is made of the quantiles i and Q - 1 - i; a middle one is in none.

    Shapes: pred [..., Q], target [...], levels [Q] -> [..., Q // 2]

    Returns:
      One number per pair, in units of ``target``, float32 (float64 for float64
      ``pred``).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or the levels are not symmetric around a half.

    Numerics: relative error below 1e-6 of the numbers added.

    Source: Gneiting and Raftery 2007; Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import interval_score
    >>> interval_score(jnp.float32([0, 1]), 2.0, jnp.float32([0.25, 0.75]))
    Array([5.], dtype=float32)
    """
    q, y, tau = _prepare(pred, target, levels)
    _check_symmetric(levels)
    pairs = q.shape[-1] // 2
    low, high = q[..., :pairs], jnp.flip(q, -1)[..., :pairs]
    outside = jnp.maximum(low - y, 0) + jnp.maximum(y - high, 0)
    return (high - low) + outside / tau[..., :pairs]


def weighted_interval_score(
    pred: ArrayLike, target: ArrayLike, levels: ArrayLike
) -> jax.Array:
    r"""Twice the summed pinball loss, one value per example.

    Use it when you judge all quantiles of a forecast at once.

    .. math:: 2 \sum_\tau \max(\tau e, (\tau - 1) e) =
        |y - m| + \sum_i \alpha_i IS_{\alpha_i}

    with the median m, if it is a level, and the interval scores of the pairs. Not
    divided by the number of levels.

    Shapes: pred [..., Q], target [...], levels [Q] -> [...]

    Returns:
      In units of ``target``, float32 (float64 for float64 ``pred``).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or the levels are not symmetric around a half.

    Numerics: relative error below 1e-6 of the errors added.

    Source: Bracher et al. 2021, arXiv:2005.12881; Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import weighted_interval_score
    >>> weighted_interval_score(jnp.float32([0, 1]), 2.0, jnp.float32([0.25, 0.75]))
    Array(2.5, dtype=float32)
    """
    losses = pinball_loss(pred, target, levels)
    _check_symmetric(levels)
    return 2 * losses.sum(-1)


def crossing_penalty(pred: ArrayLike, *, margin: ArrayLike = 0.0) -> jax.Array:
    r"""Penalty on quantiles that are out of order, one value per example.

    Use it when quantiles cross and should not.

    .. math:: \frac{2}{Q (Q - 1)} \sum_{i < j} (q_i - q_j + \delta_{ij})_+

    Shapes: pred [..., Q] -> [...]

    Args:
      pred: quantiles of increasing levels.
      margin: delta, the distance that is asked for, a number or [Q, Q].

    Returns:
      In units of ``pred``, float32 (float64 for float64); 0 for one quantile.

    Raises:
      TypeError: ``pred`` is not floating point.
      ValueError: ``pred`` has no axis, or ``margin`` has another shape.

    Numerics: relative error below 1e-6 of the largest quantile.

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import crossing_penalty
    >>> crossing_penalty(jnp.float32([1, 0, 2]), margin=0.5)
    Array(0.5, dtype=float32)
    """
    q = _quantiles(pred)
    size = q.shape[-1]
    delta = hyper("margin", margin, q.dtype)
    if delta.shape not in ((), (size, size)):
        raise ValueError(f"margin has shape {delta.shape}, expected () or [Q, Q]")
    delta = jnp.broadcast_to(delta, (size, size)).reshape(
        (1,) * (q.ndim - 1) + (size, size)
    )
    gaps = jnp.maximum(q[..., :, None] - q[..., None, :] + delta, 0)
    later = jnp.triu(jnp.ones((size, size), bool), 1)
    later = jnp.broadcast_to(later, gaps.shape)
    pairs = max(size * (size - 1) // 2, 1)
    return jnp.sum(jnp.where(later, gaps, 0), (-2, -1)) / pairs


def _prepare(pred, target, levels):
    q, y = _quantiles(pred), numerics.promote_to_float32(target, "target")
    tau = numerics.promote_to_float32(levels, "levels")
    if y.shape != q.shape[:-1]:
        raise ValueError(f"target has shape {y.shape}, expected {q.shape[:-1]}")
    if tau.shape != q.shape[-1:]:
        raise ValueError(f"levels has shape {tau.shape}, expected {q.shape[-1:]}")
    check_range("levels", tau, lambda t: (t > 0) & (t < 1), "numbers in (0, 1)")
    tau = tau.astype(q.dtype).reshape((1,) * (q.ndim - 1) + tau.shape)
    return q, y.astype(q.dtype)[..., None], tau


def _check_symmetric(levels):
    near = lambda t: np.abs(t + np.flip(t) - 1) < 1e-3  # noqa: E731
    check_range("levels", levels, near, "levels symmetric around 0.5")
