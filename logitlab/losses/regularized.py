"""Cross-entropies with softened labels or scaled logits, penalties, proper scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import metrics, numerics
from logitlab.losses.comp_sums import class_weights, cross_entropy
from logitlab.numerics.arguments import (
    check_range,
    distribution,
    hyper,
    is_soft,
    one_hot_mask,
    weighted,
)

__all__ = [
    "bootstrapping_loss",
    "brier_loss",
    "confidence_penalized_cross_entropy",
    "confidence_penalty",
    "label_smoothing_loss",
    "logit_norm_loss",
    "spherical_score_loss",
    "z_loss",
]


def label_smoothing_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    eps: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy against a label that shares some of its mass with all classes.

    Use it when predictions are overconfident.

    .. math:: \ell = -(1 - \epsilon) w_y \log p_y
        - \frac{\epsilon}{C} \sum_c w_c \log p_c, \quad \text{or }
        -\sum_c w_c \bigl((1 - \epsilon) q_c + \epsilon / C\bigr) \log p_c

    for a distribution :math:`q`. A weight multiplies the cost of its class, that of the
    shared mass too, as in ``torch.nn.CrossEntropyLoss``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      weights: one per class [C], at least 0, or None for 1. Weight 0 selects the class
        out.
      eps: the shared mass, from 0 to 1.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; the others get no mass either. Hiding the
        label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``eps``
        outside [0, 1], or ``weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient (of the largest slope).

    Source: Szegedy et al. 2016, arXiv:1512.00567.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import label_smoothing_loss
    >>> label_smoothing_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.5076059, dtype=float32)
    """
    check_range("eps", eps, lambda e: (e >= 0) & (e <= 1), "a number from 0 to 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    own, shared = hyper("eps", 1 - eps, z.dtype), hyper("eps", eps, z.dtype)
    if weights is None and not is_soft(labels):
        return weighted(own, numerics.label_nll(z, labels)) + _mean_nll(z, shared)
    if is_soft(labels):
        q, known = distribution(z, labels, jnp.shape(logits), axis), True
    else:
        is_label, known = one_hot_mask(z, labels)
        q = is_label.astype(z.dtype)
    q = own * q + jnp.where(z > -jnp.inf, shared / _count(z), 0)
    if weights is not None:
        q = q * class_weights(weights, z)
    return jnp.where(known, cross_entropy(z, q), jnp.nan)


@jax.custom_jvp  # memory: no array of the logits' size in place of two
def _mean_nll(z, eps):
    """``eps`` times the mean over the classes of minus their log-probabilities."""
    top, log_total = numerics.max_and_log_sum(z)
    apart = jnp.sum(jnp.where(z > -jnp.inf, top - z, 0), -1)
    return eps * (apart / _count(z)[..., 0] + log_total[..., 0])


@_mean_nll.defjvp
def _mean_nll_jvp(primals, tangents):
    (z, eps), (dz, deps) = primals, tangents
    slope = numerics.softmax(z) - 1 / _count(z)
    change = eps * jnp.sum(slope * jnp.where(z > -jnp.inf, dz, 0), -1)
    return _mean_nll(z, eps), change + deps * _mean_nll(z, jnp.ones_like(eps))


def _count(z):
    """How many classes take part, at least 1."""
    return jnp.maximum(jnp.sum(z > -jnp.inf, -1, keepdims=True), 1).astype(z.dtype)


def logit_norm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.04,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""LogitNorm: cross-entropy of the direction of the logits.

    Use it when the norm of the logits should not decide confidence, as for detecting
    inputs from elsewhere (out-of-distribution).

    .. math:: \ell = -\log \mathrm{softmax}\Bigl(
        \frac{z}{T (\|z\|_2 + 10^{-7})} \Bigr)_y

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      temperature: positive.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part, in the norm too. Hiding the label costs
        ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``temperature`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for temperatures from 0.04
      on (that of a scaled score times 25 matters); squares never overflow.

    Source: Wei et al. 2022, arXiv:2205.09310.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import logit_norm_loss
    >>> logit_norm_loss(jnp.float32([3, 4]), 1, temperature=1.0)
    Array(0.5981389, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    temperature = hyper(
        "temperature", temperature, z.dtype, lambda t: t > 0, "positive"
    )
    visible = z > -jnp.inf
    # Scaled, because the squares of 1e30 overflow. The result does not depend on the
    # scale, so it needs no gradient.
    x = jnp.where(visible, z, 0)
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), -1, keepdims=True)
    size = jnp.maximum(size, 1e-7)
    w = x / size
    square = jnp.sum(w * w, -1, keepdims=True)
    some = square > 0
    norm = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    scaled = w / (norm + 1e-7 / size) / temperature
    return numerics.label_nll(jnp.where(visible, scaled, -jnp.inf), labels)


def bootstrapping_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    beta: ArrayLike | None = None,
    hard: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy against a mixture of the label and the model's own answer.

    Use it when the model's own answers are better than some of the labels.

    .. math:: \ell = -\sum_c [\beta 1_{c = y} + (1 - \beta) t_c] \log p_c

    with :math:`t = p`, held fixed, or the top class for ``hard``. The gradient of the
    soft form is :math:`\beta (p - 1_y)`, exactly; its value and curvature are not.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      beta: trust in the label, from 0 to 1; 0.95, or 0.8 for ``hard``, if None.
      hard: the top class (the first of equals) instead of the probabilities.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``beta`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Reed et al. 2015, arXiv:1412.6596.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bootstrapping_loss
    >>> bootstrapping_loss(jnp.float32([2, 1, 0]), 1, hard=True)
    Array(1.2076058, dtype=float32)
    """
    beta = (0.8 if hard else 0.95) if beta is None else beta
    check_range("beta", beta, lambda b: (b >= 0) & (b <= 1), "a number from 0 to 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    trust, rest = hyper("beta", beta, z.dtype), hyper("beta", 1 - beta, z.dtype)
    own = numerics.label_nll(z, jnp.argmax(z, -1)) if hard else _own_entropy(z)
    return weighted(trust, numerics.label_nll(z, labels)) + weighted(rest, own)


@jax.custom_jvp  # exact: a slope of 0, which p * sum(p) - p is not
def _own_entropy(z):
    """Cross-entropy of the probabilities against themselves, held fixed."""
    return -_negative_entropy(z, jax.lax.stop_gradient)


@_own_entropy.defjvp
def _own_entropy_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    p = numerics.softmax(z)
    slope = p - jax.lax.stop_gradient(p)  # exactly 0, but its derivative is not
    return _own_entropy(z), jnp.sum(slope * jnp.where(z == -jnp.inf, 0, dz), -1)


def _negative_entropy(z, held=lambda p: p):
    log_p = numerics.log_softmax(z)
    some = log_p > -jnp.inf
    log_p = jnp.where(some, log_p, 0)
    return jnp.sum(jnp.where(some, held(jnp.exp(log_p)) * log_p, 0), -1)


def confidence_penalty(
    logits: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative entropy of the probabilities, to be added to a loss.

    Use it when you add a price on low entropy to another loss.

    .. math:: \ell = -\beta H(p) = \beta \sum_c p_c \log p_c

    Shapes: logits [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      beta: how much of it.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      From ``-beta * log(C)`` to 0 nats, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Pereyra et al. 2017, arXiv:1701.06548.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import confidence_penalty
    >>> confidence_penalty(jnp.float32([2, 1, 0]))
    Array(-0.08323956, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    return hyper("beta", beta, z.dtype) * _negative_entropy(z)


def confidence_penalized_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lam: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of a set of examples plus a price on confidence: one number.

    Use it when you study cross-entropy's parts and price confidence alone.

    .. math:: -\frac1N \sum_i \log p_{i, y_i} + \lambda \log \sum_e Q_e, \quad
        Q_e = \exp \Bigl(\frac{1}{N_e} \sum_{i: e_i = e} \log p_{i, y_i} \Bigr)

    with the rank :math:`e_i` of the label, held fixed, and the sum over ranks that
    occur: :math:`\log \sum_e Q_e` is the confidence of ``metrics.ce_decomposition``.
    An example counts :math:`1 - \lambda q_e / p_e` times, with its rank's shares
    :math:`q_e` of the confidence and :math:`p_e` of the examples. The value jumps where
    two scores change places.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      lam: lambda, from 0 (cross-entropy) to 1.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding a label costs ``inf``.
      mask: bool, the examples that take part; labels of the others may be any ints.

    Returns:
      A scalar in nats, never negative, float32 (float64 for float64 logits); 0 without
      examples.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: wrong shapes, a label of C or more (NaN under ``jit``), or ``lam``
        outside [0, 1].

    Numerics: relative error below 1e-5 of the cross-entropy.

    Source: What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025,
      arXiv:2510.04067; from a description of the paper [inferred].

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import confidence_penalized_cross_entropy
    >>> z = jnp.float32([[2, 1, 0], [0, 3, 1], [1, 0, 2], [0, 1, 2]])
    >>> loss = confidence_penalized_cross_entropy(z, jnp.array([0, 1, 0, 0]), lam=0.5)
    >>> print(f"{loss:.4f}")
    1.1385
    """
    check_range("lam", lam, lambda v: (v >= 0) & (v <= 1), "a number from 0 to 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    y, keep = numerics.wide_labels(labels), numerics.check_mask(mask, z.shape[:-1])
    if mask is not None:
        y = jnp.where(keep, y, 0) if y.shape == keep.shape else y
        z = jnp.where(keep[..., None], z, 0)
    nll = numerics.label_nll(z, y)
    rank = metrics.rank_error(z, jnp.where(jnp.isnan(nll), 0, y))
    iota = jax.lax.broadcasted_iota(rank.dtype, z.shape, z.ndim - 1)
    hit = (iota == rank[..., None]) & keep[..., None]
    examples = tuple(range(nll.ndim))
    count = jnp.sum(hit, examples).astype(z.dtype)
    cost = jnp.sum(jnp.where(hit, nll[..., None], 0), examples)
    log_q = -cost / jnp.maximum(count, 1)
    confidence = numerics.logsumexp(log_q, where=count > 0)
    # Without examples, or where cross-entropy is infinite anyway.
    confidence = jnp.where(confidence == -jnp.inf, 0, confidence)
    lam = hyper("lam", lam, z.dtype)
    return numerics.masked_mean(nll, keep) + weighted(lam, confidence)


def z_loss(
    logits: ArrayLike,
    *,
    coef: ArrayLike = 1e-4,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared log-partition of the logits, to be added to a loss.

    Use it when logits drift: keeps the log-partition of a softmax near zero.

    .. math:: \ell = k \Bigl(\log \sum_c e^{z_c}\Bigr)^2

    Not to be confused with ``spherical_z_loss``.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      coef: how much of it.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      The penalty, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5 where the log-partition is not near 0.

    Source: PaLM, Chowdhery et al. 2022, arXiv:2204.02311.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import z_loss
    >>> z_loss(jnp.float32([2, 1, 0]))
    Array(0.00057966, dtype=float32)
    """
    total = numerics.logsumexp(logits, axis=axis, where=where)
    total = jnp.where(total == -jnp.inf, 0, total)
    return hyper("coef", coef, total.dtype) * total * total


def brier_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Brier score: squared error between the probabilities and the one-hot label.

    Use it when probabilities matter, not only the top class, in a bounded proper score.

    .. math:: \ell = (1 - p_y)^2 + \sum_{c \ne y} p_c^2

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. A hidden label has probability 0.

    Returns:
      The loss, from 0 to 2, float32 (float64 for float64 logits). 0 where every class
      is hidden.

    Raises:
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, as long as the squares of
      the probabilities are normal numbers (margins up to 43).

    Source: Brier 1950; golden values: baselines of Optimization-AI/ICML2023_LDR.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import brier_loss
    >>> brier_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.18006113, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    nll = numerics.label_nll(z, labels)
    is_label, _ = one_hot_mask(z, labels)
    p = jnp.where(is_label, 0, jnp.exp(numerics.log_softmax(z)))
    return jnp.square(jnp.expm1(-nll)) + jnp.sum(p * p, -1)


def spherical_score_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Spherical score: one minus the label's part of the probabilities' direction.

    Use it when you want a second bounded proper score.

    .. math:: \ell = 1 - p_y / \|p\|_2 = 1 - \sqrt{\mathrm{softmax}(2 z)_y}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. A hidden label has probability 0.

    Returns:
      The loss, from 0 to 1, float32 (float64 for float64 logits). 0 where every class
      is hidden.

    Raises:
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 of
      another class, and of the label as long as the squares of the other probabilities
      are normal numbers (up to 43).

    Source: Good 1971; Gneiting and Raftery 2007.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import spherical_score_loss
    >>> spherical_score_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.06897188, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    doubled = 2 * (z - jnp.where(top == -jnp.inf, 0, top))
    half = numerics.label_nll(doubled, labels) / 2
    return -numerics.expm1(-half)
