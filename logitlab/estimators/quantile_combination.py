"""Combination of quantile forecasts, and maps that make them monotone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.quantile import _quantiles
from logitlab.numerics._isotonic import pool_violators

__all__ = [
    "monotone_average",
    "monotone_cummax",
    "monotone_isotonic",
    "monotone_sort",
    "monotone_sweep",
    "quantile_aggregation",
]


def quantile_aggregation(
    base: ArrayLike, weight_logits: ArrayLike, *, kind: str = "fine"
) -> jax.Array:
    r"""Combines the quantiles of K models with softmax weights.

    .. math:: q_j = \sum_k w_k b_{kj}, \quad \sum_k w_{kj} b_{kj} \quad \text{or} \quad
        \sum_{k, i} w_{kij} b_{ki}

    for ``coarse`` (a weight per model), ``medium`` (per model and level) and ``fine``
    (every level from all models and all levels). The softmax runs over the axes that
    are summed. Weights of parameters are the global model, weights that a network makes
    of x (leading axes) the local one.

    Shapes: base [..., K, Q], weight_logits [..., K, Q, Q] -> [..., Q]

    Args:
      base: predictions of the models.
      weight_logits: [K], [K, Q] or [K, Q, Q] by ``kind``, with or without the leading
        axes of ``base``; -inf leaves a weight out.
      kind: ``coarse``, ``medium`` or ``fine``.

    Returns:
      Quantiles, not ordered: see ``monotone_sort``; float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: an unknown kind or wrong shapes.

    Numerics: relative error below 1e-5 of the largest prediction.

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import quantile_aggregation
    >>> base = jnp.float32([[0, 1], [2, 3]])
    >>> quantile_aggregation(base, jnp.zeros(2), kind="coarse")
    Array([1., 2.], dtype=float32)
    """
    tails = {"coarse": "K", "medium": "KQ", "fine": "KQQ"}
    if kind not in tails:
        raise ValueError(f"kind is {kind!r}, expected one of {tuple(tails)}")
    b, w = (
        numerics.promote_to_float32(base, "base"),
        numerics.promote_to_float32(weight_logits, "weights"),
    )
    if b.ndim < 2:
        raise ValueError(f"base has shape {b.shape}, expected [..., K, Q]")
    lead, (k, levels) = b.shape[:-2], b.shape[-2:]
    tail = tuple({"K": k, "Q": levels}[axis] for axis in tails[kind])
    if w.shape not in (tail, lead + tail):
        raise ValueError(
            f"weight_logits has shape {w.shape}, expected {tail} or {lead + tail}"
        )
    w = jnp.broadcast_to(w.reshape((1,) * (b.ndim - 2 + len(tail) - w.ndim) + w.shape)
                         if w.shape == tail else w, lead + tail)  # fmt: skip
    if kind == "fine":
        w = w.reshape(*lead, k * levels, levels)
        p = jnp.exp(numerics.log_softmax(w, axis=-2))
        return jnp.sum(p * b.reshape(*lead, k * levels)[..., None], -2)
    if kind == "coarse":
        return jnp.sum(jnp.exp(numerics.log_softmax(w))[..., None] * b, -2)
    return jnp.sum(jnp.exp(numerics.log_softmax(w, axis=-2)) * b, -2)


def monotone_sort(pred: ArrayLike) -> jax.Array:
    """Quantiles in increasing order; never raises their summed pinball loss.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Chernozhukov et al. 2010, arXiv:0704.3649.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import monotone_sort
    >>> monotone_sort(jnp.float32([1, 0, 2]))
    Array([0., 1., 2.], dtype=float32)
    """
    return jnp.sort(_quantiles(pred), -1)


def monotone_isotonic(pred: ArrayLike) -> jax.Array:
    r"""The nearest increasing sequence; never raises the summed pinball loss.

    .. math:: \min_{m_1 \le \dots \le m_Q} \sum_j (m_j - q_j)^2

    Found by pooling adjacent violators; its derivative averages each block of equal
    values.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Barlow et al. 1972; Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import monotone_isotonic
    >>> monotone_isotonic(jnp.float32([1, 0, 2]))
    Array([0.5, 0.5, 2. ], dtype=float32)
    """
    q = _quantiles(pred)
    out = jnp.vectorize(_isotonic, signature="(q)->(q)")(q)
    # Rounding may leave two blocks out of order by one digit.
    held = jax.lax.stop_gradient(out)
    lift = jax.lax.cummax(held, held.ndim - 1) - held
    return out + jnp.where(lift > 0, lift, 0)


def _isotonic(q):
    # Centered, so that the sums do not lose the differences.
    x = jax.lax.stop_gradient(q)
    _, blocks = pool_violators(x - x.mean(), jnp.ones_like(x))
    size = jnp.zeros_like(q).at[blocks].add(1)
    return jnp.zeros_like(q).at[blocks].add(q / size[blocks])[blocks]


def monotone_sweep(pred: ArrayLike) -> jax.Array:
    """Cumulative minimum down from the middle, cumulative maximum up from it.

    The middle is index Q // 2. Unlike sorting it can raise the summed pinball loss.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import monotone_sweep
    >>> monotone_sweep(jnp.float32([1, 0, 2]))
    Array([0., 0., 2.], dtype=float32)
    """
    q = _quantiles(pred)
    middle, last = q.shape[-1] // 2, q.ndim - 1
    down = jax.lax.cummin(q[..., : middle + 1], last, reverse=True)
    up = jax.lax.cummax(q[..., middle:], last)
    return jnp.concatenate([down, up[..., 1:]], -1)


def monotone_cummax(pred: ArrayLike) -> jax.Array:
    """Cumulative maximum of the quantiles.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import monotone_cummax
    >>> monotone_cummax(jnp.float32([1, 0, 2]))
    Array([1., 1., 2.], dtype=float32)
    """
    q = _quantiles(pred)
    return jax.lax.cummax(q, q.ndim - 1)


def monotone_average(pred: ArrayLike) -> jax.Array:
    """Mean of the cumulative maximum upwards and the cumulative minimum downwards.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import monotone_average
    >>> monotone_average(jnp.float32([1, 0, 2]))
    Array([0.5, 0.5, 2. ], dtype=float32)
    """
    q = _quantiles(pred)
    down = jax.lax.cummin(q, q.ndim - 1, reverse=True)
    return (down + jax.lax.cummax(q, q.ndim - 1)) / 2
