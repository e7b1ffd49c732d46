"""Ordered classes: cumulative logits, one for each threshold between two classes.

``F_k = P(y < k) = sigmoid(logits_k)`` for the thresholds k = 1..K-1, so a *larger*
logit means a *lower* class. Proportional odds moves all thresholds by one score; PRESTO
gives each its own weights and lets neighbouring thresholds share most of them.

CORAL and CORN train one binary classifier per threshold and, as their papers do, ask
the opposite question, whether the class lies *above* it: a larger logit means a
*higher* class.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "coral_loss",
    "corn_loss",
    "cumulative_logit_loss",
    "presto_penalty",
    "proportional_odds_loss",
]


def cumulative_logit_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    p_min: ArrayLike = 1e-8,
    axis: int = -1,
) -> jax.Array:
    r"""Negative log-likelihood of an ordered class, one value per example.

    Use it when you fit ordinal regression or PRESTO yourself.

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
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``p_min`` outside [0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 (with
      ``p_min=0``), however close two thresholds are: no sigmoids are subtracted.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cumulative_logit_loss
    >>> print(cumulative_logit_loss(jnp.float32([-0.8, 0.6, 1.7]), 0).round(4))
    1.1711
    """
    check_range(
        "p_min", p_min, lambda p: (p >= 0) & (p < 1), "a number from 0 on, below 1"
    )
    z = numerics.prepare_logits(logits, axis=axis)
    y, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1] + 1)
    upper, lower = _pick(z, y), _pick(z, y - 1)
    losses = _nll(y, z.shape[-1], upper, lower, upper - lower)
    most = -jnp.log(jnp.asarray(p_min, z.dtype))
    losses = jnp.where(losses >= most, most, losses)
    return jnp.where(known, losses, jnp.nan)


def proportional_odds_loss(
    logits: ArrayLike, labels: ArrayLike, thresholds: ArrayLike
) -> jax.Array:
    r"""Negative log-likelihood under one score for all thresholds.

    Use it when one score and a list of thresholds make the probabilities.

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
      ValueError: wrong shapes, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient in the thresholds, for
      margins up to 80; the gradient in the score relative to its two parts.

    Source: McCullagh 1980; PRESTO, Faletto and Bien, ICML 2023.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import proportional_odds_loss
    >>> thresholds = jnp.float32([-1, 1])
    >>> print(proportional_odds_loss(jnp.float32(0), 1, thresholds).round(4))
    0.7719
    """
    s = numerics.promote_to_float32(logits)
    a = numerics.promote_to_float32(thresholds, "thresholds")
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"thresholds has shape {a.shape}, expected [K - 1]")
    a = a.astype(s.dtype)
    y, known = numerics.check_labels(labels, s.shape, a.size + 1)
    table = a.reshape((1,) * s.ndim + a.shape)
    upper, lower = _pick(table, y), _pick(table, y - 1)
    losses = _nll(y, a.size, s + upper, s + lower, upper - lower)
    return jnp.where(known, losses, jnp.nan)


def coral_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    axis: int = -1,
) -> jax.Array:
    r"""CORAL: one binary cross-entropy per threshold, one value per example.

    Use it when classes are ratings or ages, in an order.

    .. math:: \ell = \sum_{k=1}^{K-1} \lambda_k \log(1 + e^{\mp z_k}), \quad
        - \text{ where } y \ge k, \; + \text{ where } y < k

    with :math:`\sigma(z_k) = P(y \ge k)`, so that a larger logit means a *higher*
    class. Take it where all thresholds share one score, :math:`z_k = s + b_k`: then the
    probabilities are consistent, for the best biases are in order. The predicted class
    is the number of positive logits.

    Shapes: logits [..., T], labels [...] -> [...]

    Args:
      logits: one for each of the K - 1 thresholds.
      labels: ints in ``[0, K)``, one class more than there are logits.
      weights: lambda, [T], of the thresholds; 1 by default.
      axis: the threshold axis of ``logits``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point or ``labels`` not integer.
      ValueError: wrong label shape, a label of K or more (NaN under ``jit``), or
        weights of another shape.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: CORAL, Cao, Mirjalili and Raschka 2019, arXiv:1901.07884.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import coral_loss
    >>> print(f"{coral_loss(jnp.float32([1.5, 0.2, -2]), 2):.4f}")
    0.9265
    """
    z, below, known = _tasks(logits, labels, axis)
    terms = jax.nn.softplus(jnp.where(below >= 0, -z, z))
    if weights is not None:
        w = numerics.promote_to_float32(weights, "weights").astype(z.dtype)
        if w.shape != z.shape[-1:]:
            raise ValueError(f"weights has shape {w.shape}, expected {z.shape[-1:]}")
        w = jnp.broadcast_to(w, z.shape)
        terms = jnp.where(w == 0, 0, w * jnp.where(w == 0, 0, terms))
    return jnp.where(known, jnp.sum(terms, -1), jnp.nan)


def corn_loss(logits: ArrayLike, labels: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""CORN: conditional binary cross-entropies of the thresholds up to the label.

    Use it when the thresholds should not share one weight vector.

    .. math:: \ell = \sum_{k \le y} \log(1 + e^{-z_k})
        + [y < K - 1] \log(1 + e^{z_{y+1}})

    with :math:`\sigma(z_k) = P(y \ge k \mid y \ge k - 1)`, so that a larger logit
    means a *higher* class. It is minus the log-probability of the class, and consistent
    for any logits: :math:`P(y \ge k) = \prod_{j \le k} \sigma(z_j)`, in logarithms
    ``jnp.cumsum(jax.nn.log_sigmoid(logits), -1)``. The predicted class is the number of
    these above one half.

    Shapes: logits [..., T], labels [...] -> [...]

    Args:
      logits: one for each of the K - 1 thresholds.
      labels: ints in ``[0, K)``, one class more than there are logits.
      axis: the threshold axis of ``logits``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). The paper divides its sum
      by the number of terms, ``jnp.minimum(labels + 1, K - 1).sum()``, in place of the
      number of examples.

    Raises:
      TypeError: ``logits`` is not floating point or ``labels`` not integer.
      ValueError: wrong label shape, or a label of K or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: CORN, Shi, Cao and Raschka 2021, arXiv:2111.08851.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import corn_loss
    >>> print(f"{corn_loss(jnp.float32([1.5, 0.2, -2]), 1):.4f}")
    0.9996
    """
    z, below, known = _tasks(logits, labels, axis)
    terms = jnp.where(below >= -1, jax.nn.softplus(jnp.where(below >= 0, -z, z)), 0)
    return jnp.where(known, jnp.sum(terms, -1), jnp.nan)


def _tasks(logits, labels, axis):
    """Logits, the label less each threshold 1..K-1, and which labels are classes."""
    z = numerics.prepare_logits(logits, axis=axis)
    y, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1] + 1)
    threshold = jax.lax.broadcasted_iota(
        jnp.int32, z.shape, z.ndim - 1, out_sharding=jax.typeof(z).sharding
    )
    return z, y[..., None] - 1 - threshold, known


def presto_penalty(
    psi: ArrayLike,
    *,
    l1: ArrayLike = 1.0,
    l2: ArrayLike = 0.0,
    penalize_first: bool = True,
) -> jax.Array:
    r"""PRESTO's elastic net on differences between thresholds: one number.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import presto_penalty
    >>> presto_penalty(jnp.float32([[1, -2], [0, 3]]), penalize_first=False)
    Array(3., dtype=float32)
    """
    p = numerics.promote_to_float32(psi, "psi")
    l1 = hyper("l1", l1, p.dtype, lambda v: v >= 0, "at least 0")
    l2 = hyper("l2", l2, p.dtype, lambda v: v >= 0, "at least 0")
    if p.ndim == 0:
        raise ValueError("psi has shape (), expected thresholds on the first axis")
    p = p if penalize_first else p[1:]
    first, second = jnp.where(l1 == 0, 0, p), jnp.where(l2 == 0, 0, p)
    return l1 * jnp.sum(jnp.abs(first)) + l2 * jnp.sum(second * second) / 2


def _nll(y, last, upper, lower, gap):
    """Minus the log of a difference of sigmoids, ``inf`` where it is not positive."""
    inner = (y > 0) & (y < last)
    lost = inner & (gap < jnp.finfo(gap.dtype).tiny)
    between = inner & ~lost
    gap = jnp.where(between, gap, 1)
    small = -numerics.expm1(-gap)
    ends = jnp.where(y < last, jax.nn.softplus(-upper), 0) + jnp.where(
        y > 0, jax.nn.softplus(lower), 0
    )
    return jnp.where(lost, jnp.inf, ends - jnp.where(between, jnp.log(small), 0))


def _pick(z, at):
    """``z[..., at]``, 0 where there is none; a sum, so that classes may be sharded."""
    iota = jax.lax.broadcasted_iota(jnp.int32, (*at.shape, z.shape[-1]), at.ndim)
    return jnp.sum(jnp.where(iota == at[..., None], z, 0), -1)
