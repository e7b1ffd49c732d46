"""Quantile regression: losses, combination, ordering and calibration of quantiles."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.rows import Row

__all__ = [
    "coverage",
    "cqr_calibrate",
    "cqr_scores",
    "crossing_penalty",
    "huber_pinball_loss",
    "interval_score",
    "monotone_average",
    "monotone_cummax",
    "monotone_isotonic",
    "monotone_sort",
    "monotone_sweep",
    "pinball_loss",
    "quantile_aggregation",
    "weighted_interval_score",
]

NOT_LOSSES = (
    "coverage",
    "cqr_calibrate",
    "cqr_scores",
    "monotone_average",
    "monotone_cummax",
    "monotone_isotonic",
    "monotone_sort",
    "monotone_sweep",
    "quantile_aggregation",
)

_SOURCE = "Quantile aggregation, Fakoor et al. 2023, arXiv:2103.00083"


def pinball_loss(pred: ArrayLike, target: ArrayLike, levels: ArrayLike) -> jax.Array:
    r"""Pinball loss of each quantile.

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

    >>> pinball_loss(jnp.float32([0, 2]), 1.0, jnp.float32([0.25, 0.75]))
    Array([0.25, 0.25], dtype=float32)
    """
    q, y, tau = _prepare(pred, target, levels)
    e = y - q
    return jnp.where(e >= 0, tau * e, (tau - 1) * e)


def huber_pinball_loss(
    pred: ArrayLike, target: ArrayLike, levels: ArrayLike, *, width: float
) -> jax.Array:
    r"""Pinball loss with a parabola around the tie.

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

    >>> huber_pinball_loss(jnp.float32([0]), 1.0, jnp.float32([0.5]), width=0.1)
    Array([0.475], dtype=float32)
    """
    _check("width", width, lambda v: v > 0, "a number above 0")
    q, y, tau = _prepare(pred, target, levels)
    e = y - q
    size = jnp.abs(e)
    near = size <= width
    small = jnp.where(near, e, 0)
    huber = jnp.where(near, small * small / (2 * width), size - width / 2)
    return jnp.where(e >= 0, tau, 1 - tau) * huber


def interval_score(pred: ArrayLike, target: ArrayLike, levels: ArrayLike) -> jax.Array:
    r"""Interval score of each pair of symmetric quantiles.

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

    >>> interval_score(jnp.float32([0, 1]), 2.0, jnp.float32([0.25, 0.75]))
    Array([5.], dtype=float32)
    """
    q, y, tau = _prepare(pred, target, levels)
    _check_symmetric(levels)
    pairs = q.shape[-1] // 2
    low, high = q[..., :pairs], jnp.flip(q, -1)[..., :pairs]
    # Quarters: differences of the largest numbers fit, and so does what they add up to.
    low, high, y = low / 4, high / 4, y / 4
    outside = jnp.maximum(low - y, 0) + jnp.maximum(y - high, 0)
    return 4 * ((high - low) + outside / tau[..., :pairs])


def weighted_interval_score(
    pred: ArrayLike, target: ArrayLike, levels: ArrayLike
) -> jax.Array:
    r"""Twice the summed pinball loss, one value per example.

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

    >>> weighted_interval_score(jnp.float32([0, 1]), 2.0, jnp.float32([0.25, 0.75]))
    Array(2.5, dtype=float32)
    """
    losses = pinball_loss(pred, target, levels)
    _check_symmetric(levels)
    return 2 * losses.sum(-1)


def crossing_penalty(pred: ArrayLike, *, margin: ArrayLike = 0.0) -> jax.Array:
    r"""How far quantiles are out of order, one value per example.

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

    >>> crossing_penalty(jnp.float32([1, 0, 2]), margin=0.5)
    Array(0.5, dtype=float32)
    """
    q = _quantiles(pred)
    size = q.shape[-1]
    delta = jnp.asarray(margin, q.dtype)
    if delta.shape not in ((), (size, size)):
        raise ValueError(f"margin has shape {delta.shape}, expected () or [Q, Q]")
    delta = jnp.broadcast_to(delta, (size, size)).reshape(
        (1,) * (q.ndim - 1) + (size, size)
    )
    half = q / 2  # differences of the largest numbers fit
    gaps = jnp.maximum(half[..., :, None] - half[..., None, :] + delta / 2, 0)
    later = jnp.triu(jnp.ones((size, size), bool), 1)
    later = jnp.broadcast_to(later, gaps.shape)
    share = gaps / max(size * (size - 1) // 2, 1)
    return 2 * jnp.sum(jnp.where(later, share, 0), (-2, -1))


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

    >>> base = jnp.float32([[0, 1], [2, 3]])
    >>> quantile_aggregation(base, jnp.zeros(2), kind="coarse")
    Array([1., 2.], dtype=float32)
    """
    tails = {"coarse": "K", "medium": "KQ", "fine": "KQQ"}
    if kind not in tails:
        raise ValueError(f"kind is {kind!r}, expected one of {tuple(tails)}")
    b, w = numerics.promote(base, "base"), numerics.promote(weight_logits, "weights")
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

    >>> monotone_sort(jnp.float32([1, 0, 2]))
    Array([0., 1., 2.], dtype=float32)
    """
    return jnp.sort(_quantiles(pred), -1)


def monotone_isotonic(pred: ArrayLike) -> jax.Array:
    r"""The nearest increasing sequence; never raises the summed pinball loss.

    .. math:: \min_{m_1 \le \dots \le m_Q} \sum_j (m_j - q_j)^2

    Found by the min-max formula, with [..., Q, Q] temporaries; its derivative averages
    each block of equal values.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Barlow et al. 1972; Fakoor et al. 2023, arXiv:2103.00083.

    >>> monotone_isotonic(jnp.float32([1, 0, 2]))
    Array([0.5, 0.5, 2. ], dtype=float32)
    """
    q = _quantiles(pred)
    size = q.shape[-1]
    # Scaled and centred, so that no sum overflows or loses the differences.
    x = jax.lax.stop_gradient(q) / (4 * size)
    x = x - x.mean(-1, keepdims=True)
    total = jnp.cumsum(x, -1)
    before = total - x
    first = jax.lax.broadcasted_iota(jnp.int32, (*x.shape, size), x.ndim - 1)
    last = jax.lax.broadcasted_iota(jnp.int32, (*x.shape, size), x.ndim)
    count = jnp.maximum(last - first + 1, 1).astype(x.dtype)
    means = (total[..., None, :] - before[..., :, None]) / count
    means = jnp.where(last >= first, means, jnp.inf)
    # Least mean over the ends from j on, then the largest over the starts up to j.
    least = jax.lax.cummin(means, means.ndim - 1, reverse=True)
    least = jnp.where(last >= first, least, -jnp.inf)
    fit = least.max(-2)
    same = fit[..., :, None] == fit[..., None, :]
    share = same / same.sum(-1, keepdims=True)
    out = jnp.sum(share.astype(q.dtype) * q[..., None, :], -1)
    # Rounding may leave two blocks out of order by one digit.
    held = jax.lax.stop_gradient(out)
    lift = jax.lax.cummax(held, held.ndim - 1) - held
    return out + jnp.where(lift > 0, lift, 0)


def monotone_sweep(pred: ArrayLike) -> jax.Array:
    """Cumulative minimum down from the middle, cumulative maximum up from it.

    The middle is index Q // 2. Unlike sorting it can raise the summed pinball loss.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

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

    >>> monotone_cummax(jnp.float32([1, 0, 2]))
    Array([1., 1., 2.], dtype=float32)
    """
    q = _quantiles(pred)
    return jax.lax.cummax(q, q.ndim - 1)


def monotone_average(pred: ArrayLike) -> jax.Array:
    """Mean of the cumulative maximum upwards and the cumulative minimum downwards.

    Shapes: pred [..., Q] -> [..., Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> monotone_average(jnp.float32([1, 0, 2]))
    Array([0.5, 0.5, 2. ], dtype=float32)
    """
    q = _quantiles(pred)
    down = jax.lax.cummin(q, q.ndim - 1, reverse=True)
    return down / 2 + jax.lax.cummax(q, q.ndim - 1) / 2


def cqr_scores(lower: ArrayLike, upper: ArrayLike, target: ArrayLike) -> jax.Array:
    r"""Conformity scores of intervals: by how much a target is outside.

    .. math:: s = \max(q_{lo} - y, y - q_{hi})

    Shapes: lower [...], upper [...], target [...] -> [...]

    Source: Romano et al. 2019, arXiv:1905.03222.

    >>> cqr_scores(0.0, 1.0, 1.5)
    Array(0.5, dtype=float32)
    """
    low, high = numerics.promote(lower, "lower"), numerics.promote(upper, "upper")
    y = numerics.promote(target, "target")
    if not low.shape == high.shape == y.shape:
        raise ValueError(
            f"lower, upper, target have shapes {low.shape}, {high.shape}, {y.shape}, "
            "expected equal ones"
        )
    return jnp.maximum(low - y, y - high)


def cqr_calibrate(scores: ArrayLike, alpha: float) -> jax.Array:
    r"""What to subtract from the lower and add to the upper quantile.

    .. math:: s_{(k)}, \quad k = \lceil (n + 1)(1 - \alpha) \rceil

    the k-th smallest score of held-out examples: intervals widened by it cover a new
    target with probability at least 1 - alpha. Sort the quantiles again afterwards.

    Shapes: scores [..., N] -> [...]

    Args:
      scores: of ``cqr_scores``, the n held-out examples last.
      alpha: the miss rate, in (0, 1), a Python number.

    Returns:
      The offset, ``inf`` where n is too small for any finite one (k > n).

    Raises:
      TypeError: ``scores`` is not floating point.
      ValueError: ``alpha`` is outside (0, 1), or ``scores`` has no axis.

    Source: Romano et al. 2019, arXiv:1905.03222.

    >>> cqr_calibrate(jnp.arange(9.0), 0.1)
    Array(8., dtype=float32)
    """
    _check("alpha", alpha, lambda v: (v > 0) & (v < 1), "a number in (0, 1)")
    s = numerics.promote(scores, "scores")
    if s.ndim == 0:
        raise ValueError(f"scores has shape {s.shape}, expected an axis of examples")
    n = s.shape[-1]
    # 20 * 0.95 is 19, whatever the last binary digit says.
    k = math.ceil((n + 1) * (1 - float(alpha)) - 1e-9 * (n + 1))
    if k > n:
        return jnp.full(s.shape[:-1], jnp.inf, s.dtype)
    return jnp.sort(s, -1)[..., max(k, 1) - 1]


def coverage(
    pred: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Share of the targets at or below each quantile.

    .. math:: \frac{1}{n} \sum_i [y_i \le q_{ij}]

    It should be the level; the mean of the absolute differences is the calibration
    error.

    Shapes: pred [..., Q], target [...], mask [...] -> [Q]

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> coverage(jnp.float32([[0, 2], [0, 4]]), jnp.float32([1, 3]))
    Array([0., 1.], dtype=float32)
    """
    q, y = _quantiles(pred), numerics.promote(target, "target")
    if y.shape != q.shape[:-1]:
        raise ValueError(f"target has shape {y.shape}, expected {q.shape[:-1]}")
    under = (y[..., None] <= q).astype(q.dtype).reshape(-1, q.shape[-1])
    if mask is not None:
        mask = jnp.asarray(mask).reshape(-1)
    return jax.vmap(lambda column: numerics.masked_mean(column, mask), 1)(under)


def _quantiles(pred):
    q = numerics.promote(pred, "pred")
    if q.ndim == 0 or q.shape[-1] == 0:
        raise ValueError(f"pred has shape {q.shape}, expected at least one quantile")
    return q


def _prepare(pred, target, levels):
    q, y = _quantiles(pred), numerics.promote(target, "target")
    tau = numerics.promote(levels, "levels")
    if y.shape != q.shape[:-1]:
        raise ValueError(f"target has shape {y.shape}, expected {q.shape[:-1]}")
    if tau.shape != q.shape[-1:]:
        raise ValueError(f"levels has shape {tau.shape}, expected {q.shape[-1:]}")
    inside = lambda t: ((t > 0) & (t < 1)).all()  # noqa: E731
    _check("levels", tau, inside, "numbers in (0, 1)")
    tau = tau.astype(q.dtype).reshape((1,) * (q.ndim - 1) + tau.shape)
    return q, y.astype(q.dtype)[..., None], tau


def _check_symmetric(levels):
    tau = jnp.asarray(levels)
    near = lambda t: (jnp.abs(t + jnp.flip(t) - 1) < 1e-3).all()  # noqa: E731
    _check("levels", tau, near, "levels symmetric around 0.5")


def _check(name, value, ok, expected):
    fine = ok(value)  # traced if the value is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"{name} is {value}, expected {expected}")


def _quantile_targets(key, shape, dtype):
    q, y = jax.random.split(key)
    levels = (jnp.arange(shape[-1], dtype=dtype) + 0.5) / shape[-1]
    pred = jax.random.normal(q, shape, dtype)
    return pred, jax.random.normal(y, shape[:-1], dtype), levels


def _quantiles_only(key, shape, dtype):
    return (jax.random.normal(key, shape, dtype),)


_ROW = dict(
    make=_quantile_targets,
    source=_SOURCE,
    golden="quantile_aggregation",
    shift_invariant=False,
    convex=True,
    where=False,
    symmetric=False,
)

ROWS = (
    Row(pinball_loss, "elementwise", **_ROW),
    Row(huber_pinball_loss, "elementwise", hyper={"width": 0.1}, **_ROW),
    Row(
        interval_score,
        "pair",
        lower=None,
        gathers="a level is paired with its mirror image",
        **_ROW,
    ),
    Row(weighted_interval_score, "example", **_ROW),
    Row(
        crossing_penalty,
        "example",
        gathers="levels are compared in pairs",
        **_ROW | {"make": _quantiles_only, "shift_invariant": True},
    ),
)
