"""Ordered classes: cumulative logits, one for each threshold between two classes.

``F_k = P(y < k) = sigmoid(logits_k)`` for the thresholds k = 1..K-1, so a *larger*
logit means a *lower* class. Proportional odds moves all thresholds by one score; PRESTO
gives each its own weights and lets neighbouring thresholds share most of them.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked

__all__ = [
    "cumulative_logit_loss",
    "cumulative_probs",
    "ordered_thresholds",
    "presto_penalty",
    "proportional_odds_loss",
]

NOT_LOSSES = ("cumulative_probs", "ordered_thresholds", "presto_penalty")

_SOURCE = "PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto"


def cumulative_logit_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    p_min: ArrayLike = 1e-8,
    axis: int = -1,
) -> jax.Array:
    r"""Negative log-likelihood of an ordered class, one value per example.

    .. math:: -\log \max(\sigma(\eta_{y+1}) - \sigma(\eta_y), p_{\min}), \quad
        \eta_0 = -\infty, \; \eta_K = \infty

    with the logits :math:`\eta_1 \dots \eta_{K-1}` of being below each threshold. It is
    the loss of PRESTO, whose logits are :math:`\alpha_k + x^T \sum_{j \le k} \psi_j`:
    add :math:`\lambda` times ``presto_penalty`` of :math:`\psi` to its mean.

    Thresholds that cross, which separate weights cannot rule out, give a class a
    negative probability: like every probability below ``p_min`` it costs
    :math:`-\log p_{\min}`, with zero gradient, as in the released code.

    Shapes: logits [..., T], labels [...] -> [...]

    Args:
      logits: one for each of the K - 1 thresholds, increasing along ``axis``.
      labels: ints in ``[0, K)``, one class more than there are logits.
      p_min: from 0 on, below 1. With 0 nothing is clipped, but crossing costs ``inf``.
      axis: the threshold axis of ``logits``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point or ``labels`` not integer.
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``p_min`` outside [0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 (with
      ``p_min=0``), however close two thresholds are: no sigmoids are subtracted.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> print(cumulative_logit_loss(jnp.float32([-0.8, 0.6, 1.7]), 0).round(4))
    1.1711
    """
    checked("p_min", p_min, lambda p: (p >= 0) & (p < 1), "a number from 0 on, below 1")
    z = numerics.class_axis_last(logits, axis=axis)
    y, known = numerics.known_labels(labels, z.shape[:-1], z.shape[-1] + 1)
    upper, lower = _pick(z, y), _pick(z, y - 1)
    losses = _nll(y, z.shape[-1], upper, lower, upper - lower)
    most = -jnp.log(jnp.asarray(p_min, z.dtype))
    losses = jnp.where(losses >= most, most, losses)
    return jnp.where(known, losses, jnp.nan)


def proportional_odds_loss(
    logits: ArrayLike, labels: ArrayLike, thresholds: ArrayLike
) -> jax.Array:
    r"""Negative log-likelihood under one score for all thresholds.

    .. math:: -\log(\sigma(s + \alpha_{y+1}) - \sigma(s + \alpha_y)), \quad
        \alpha_0 = -\infty, \; \alpha_K = \infty

    Elementwise: one score, one label, one loss. The same as ``cumulative_logit_loss``
    of ``logits[..., None] + thresholds`` without clipping, but the distance of two
    thresholds does not drown in a large score.

    Shapes: logits [...], labels [...], thresholds [T] -> [...]

    Args:
      logits: s; a larger one means a lower class.
      labels: ints in ``[0, K)``.
      thresholds: alpha, the K - 1 of them increasing, as ``ordered_thresholds`` makes
        them. A class between two that are out of order costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``thresholds`` is not floating point or ``labels`` not
        integer.
      ValueError: wrong shapes, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient in the thresholds, for
      margins up to 80; the gradient in the score relative to its two parts.

    Source: McCullagh 1980; PRESTO, Faletto and Bien, ICML 2023.

    >>> thresholds = jnp.float32([-1, 1])
    >>> print(proportional_odds_loss(jnp.float32(0), 1, thresholds).round(4))
    0.7719
    """
    s = numerics.promote(logits)
    a = numerics.promote(thresholds, "thresholds")
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"thresholds has shape {a.shape}, expected [K - 1]")
    a = a.astype(s.dtype)
    y, known = numerics.known_labels(labels, s.shape, a.size + 1)
    table = a.reshape((1,) * s.ndim + a.shape)
    upper, lower = _pick(table, y), _pick(table, y - 1)
    losses = _nll(y, a.size, s + upper, s + lower, upper - lower)
    return jnp.where(known, losses, jnp.nan)


def cumulative_probs(logits: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Class probabilities of cumulative logits.

    .. math:: p_k = \sigma(\eta_{k+1}) - \sigma(\eta_k)
        = \sigma(\eta_{k+1}) \, \sigma(-\eta_k) \, (1 - e^{\eta_k - \eta_{k+1}})

    They add up to 1. The class between two thresholds that cross has a *negative* one,
    which is how to find out.

    Shapes: logits [..., T] -> [..., T + 1]

    Args:
      logits: one for each of the K - 1 thresholds.
      axis: the threshold axis, the class axis of the result.

    Returns:
      float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point.
      ValueError: no such axis, or no thresholds.

    Numerics: relative error below 1e-5 for every class and its gradient.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> [f"{p:.4f}" for p in cumulative_probs(jnp.float32([-0.8, 0.6, 1.7]))]
    ['0.3100', '0.3356', '0.1999', '0.1545']
    """
    z = numerics.class_axis_last(logits, axis=axis)
    upper, lower = z[..., 1:], z[..., :-1]
    order = upper >= lower
    high, low = jnp.where(order, upper, lower), jnp.where(order, lower, upper)
    both = jnp.isinf(high) & (high == low)  # which have no distance
    gap = jnp.where(both, 0, high) - jnp.where(both, 0, low)
    inner = _sigmoid(high) * _sigmoid(-low) * _one_minus_exp(gap)
    inner = jnp.where(order, inner, -inner)
    ends = _sigmoid(z[..., :1]), _sigmoid(-z[..., -1:])
    return jnp.moveaxis(jnp.concatenate([ends[0], inner, ends[1]], -1), -1, axis)


def ordered_thresholds(raw: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Increasing thresholds from numbers without order.

    .. math:: \alpha_1 = r_1, \quad \alpha_k = \alpha_{k-1} + \log(1 + e^{r_k})

    With these the classes of ``proportional_odds_loss`` cannot have a probability of 0.

    Shapes: raw [..., T] -> [..., T]

    Raises:
      TypeError: ``raw`` is not floating point.
      ValueError: no such axis, or no thresholds.

    Source: inferred; any positive gap does.

    >>> print(ordered_thresholds(jnp.float32([-1, 0, 0])).round(4))
    [-1.     -0.3069  0.3863]
    """
    r = numerics.class_axis_last(raw, axis=axis, name="raw")
    gaps = jnp.concatenate([r[..., :1], _softplus(r[..., 1:])], -1)
    return jnp.moveaxis(jnp.cumsum(gaps, -1), -1, axis)


def presto_penalty(
    psi: ArrayLike,
    *,
    l1: ArrayLike = 1.0,
    l2: ArrayLike = 0.0,
    penalize_first: bool = True,
) -> jax.Array:
    r"""How far the weights of the thresholds are from proportional odds: one number.

    .. math:: l_1 \sum_k \|\psi_k\|_1 + \frac{l_2}{2} \sum_k \|\psi_k\|_2^2

    Weights of threshold k are :math:`\beta_k = \sum_{j \le k} \psi_j`,
    ``jnp.cumsum(psi, 0)``; intercepts are not penalised. Its proximal step is
    ``optim.fused_soft_threshold``.

    Args:
      psi: [K - 1, ...], the first block and the differences to the one before.
      l1: weight of the absolute values.
      l2: weight of half the squares; the half is that of the elastic net, inferred.
      penalize_first: the released code shrinks the first block too. Without, a large
        ``l1`` leaves proportional odds.

    Returns:
      A scalar, float32 (float64 for float64 psi).

    Raises:
      TypeError: ``psi`` is not floating point.
      ValueError: ``psi`` has no axis, or ``l1`` or ``l2`` is negative.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> presto_penalty(jnp.float32([[1, -2], [0, 3]]), penalize_first=False)
    Array(3., dtype=float32)
    """
    checked("l1", l1, lambda v: v >= 0, "at least 0")
    checked("l2", l2, lambda v: v >= 0, "at least 0")
    p = numerics.promote(psi, "psi")
    if p.ndim == 0:
        raise ValueError("psi has shape (), expected thresholds on the first axis")
    p = p if penalize_first else p[1:]
    return l1 * jnp.sum(jnp.abs(p)) + l2 * jnp.sum(p * p) / 2


def _nll(y, last, upper, lower, gap):
    """Minus the log of a difference of sigmoids, ``inf`` where it is not positive."""
    inner = (y > 0) & (y < last)
    lost = inner & (gap < jnp.finfo(gap.dtype).tiny)
    between = inner & ~lost
    gap = jnp.where(between, gap, 1)
    small = _one_minus_exp(gap)
    ends = jnp.where(y < last, _softplus(-upper), 0) + jnp.where(
        y > 0, _softplus(lower), 0
    )
    return jnp.where(lost, jnp.inf, ends - jnp.where(between, jnp.log(small), 0))


def _one_minus_exp(x):
    """``1 - exp(-x)`` for x >= 0; the slope of ``expm1`` rounds to 0 from 17 on."""
    near = x < 0.69
    return jnp.where(near, -jnp.expm1(-jnp.where(near, x, 0)), 1 - jnp.exp(-x))


def _softplus(x):
    return jnp.logaddexp(x, 0)


def _sigmoid(x):
    """A sigmoid whose slope does not round to 0."""
    return jnp.exp(-_softplus(-x))


def _pick(z, at):
    """``z[..., at]``, 0 where there is none; a sum, so that classes may be sharded."""
    iota = jax.lax.broadcasted_iota(jnp.int32, (*at.shape, z.shape[-1]), at.ndim)
    return jnp.sum(jnp.where(iota == at[..., None], z, 0), -1)


def _levels(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = jnp.sort(3 * jax.random.normal(logits_key, shape, dtype), -1)
    return logits, jax.random.randint(labels_key, shape[:-1], 0, shape[-1] + 1)


def _scores(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    labels = jax.random.randint(labels_key, shape, 0, 4)
    return logits, labels, jnp.array([-2, 0.5, 1], dtype)


ROWS = (
    rows.Row(
        cumulative_logit_loss,
        "example",
        _levels,
        _SOURCE,
        shift_invariant=False,
        upper=18.421,
        where=False,
        symmetric=False,
        note="Logits of thresholds, one fewer than classes; convex while they are "
        "in order",
    ),
    rows.Row(
        proportional_odds_loss,
        "elementwise",
        _scores,
        "McCullagh 1980",
        shift_invariant=False,
        convex=True,
        where=False,
        symmetric=False,
    ),
)
