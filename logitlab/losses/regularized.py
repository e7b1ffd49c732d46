"""Cross-entropies with softened labels or scaled logits, penalties, proper scores."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import metrics, numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked, label_mask

__all__ = [
    "bootstrapping_loss",
    "brier_loss",
    "confidence_penalised_ce",
    "confidence_penalty",
    "label_smoothing_loss",
    "logit_norm_loss",
    "spherical_score_loss",
    "z_regularization",
]


def label_smoothing_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy against a label that shares some of its mass with all classes.

    .. math:: \ell = -(1 - \epsilon) \log p_y - \frac{\epsilon}{C} \sum_c \log p_c

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      eps: the shared mass, from 0 to 1.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; the others get no mass either. Hiding the
        label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``eps`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient (of the largest slope).

    Source: Szegedy et al. 2016, arXiv:1512.00567.

    >>> label_smoothing_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.5076059, dtype=float32)
    """
    checked("eps", eps, lambda e: (e >= 0) & (e <= 1), "a number from 0 to 1")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    eps = jnp.asarray(eps, z.dtype)
    nll = numerics.label_nll(z, labels)
    return _weighted(1 - eps, nll) + _mean_nll(z, eps)


@jax.custom_jvp
def _mean_nll(z, eps):
    """``eps`` times the mean over the classes of minus their log-probabilities."""
    top, log_total = numerics.top_and_log_total(z)
    # Halves and shares: what the largest numbers are apart fits.
    apart = jnp.where(z > -jnp.inf, (top / 2 - z / 2) * (eps / _count(z)), 0)
    return 2 * jnp.sum(apart, -1) + eps * log_total[..., 0]


@_mean_nll.defjvp
def _mean_nll_jvp(primals, tangents):
    (z, eps), (dz, deps) = primals, tangents
    slope = jnp.where(z > -jnp.inf, numerics.softmax(z) - 1 / _count(z), 0)
    change = eps * jnp.sum(slope * jnp.where(z > -jnp.inf, dz, 0), -1)
    return _mean_nll(z, eps), change + deps * _mean_nll(z, jnp.ones_like(eps))


def _count(z):
    """How many classes take part, at least 1."""
    return jnp.maximum(jnp.sum(z > -jnp.inf, -1, keepdims=True, dtype=z.dtype), 1)


def _weighted(weight, losses):
    """``weight * losses``, in which a weight of 0 silences even ``inf``."""
    weight = jnp.broadcast_to(weight, losses.shape)
    silent = (weight == 0) & ~jnp.isnan(losses)
    return jnp.where(silent, 0, weight * jnp.where(silent, 0, losses))


def logit_norm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.04,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""LogitNorm: cross-entropy of the direction of the logits.

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
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``temperature`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for temperatures from 0.04
      on (that of a scaled score times 25 matters); squares never overflow.

    Source: Wei et al. 2022, arXiv:2205.09310.

    >>> logit_norm_loss(jnp.float32([3, 4]), 1, temperature=1.0)
    Array(0.5981389, dtype=float32)
    """
    checked("temperature", temperature, lambda t: t > 0, "positive")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    visible = z > -jnp.inf
    # The result does not depend on the scale, so it needs no gradient. A sixteenth of
    # the largest score still has a normal number for reciprocal.
    x = jnp.where(visible, z / 16, 0)
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), -1, keepdims=True)
    size = jnp.maximum(size, 1e-7)
    w = x / size
    square = jnp.sum(w * w, -1, keepdims=True)
    some = square > 0
    norm = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    scaled = w / (norm + 1e-7 / 16 / size) / temperature
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
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``beta`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Reed et al. 2015, arXiv:1412.6596.

    >>> bootstrapping_loss(jnp.float32([2, 1, 0]), 1, hard=True)
    Array(1.2076058, dtype=float32)
    """
    beta = (0.8 if hard else 0.95) if beta is None else beta
    checked("beta", beta, lambda b: (b >= 0) & (b <= 1), "a number from 0 to 1")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    beta = jnp.asarray(beta, z.dtype)
    own = numerics.label_nll(z, jnp.argmax(z, -1)) if hard else _own_entropy(z)
    return _weighted(beta, numerics.label_nll(z, labels)) + _weighted(1 - beta, own)


@jax.custom_jvp
def _own_entropy(z):
    """Cross-entropy of the probabilities against themselves, held fixed."""
    return -_negative_entropy(z)


@_own_entropy.defjvp
def _own_entropy_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    p = jnp.exp(numerics.log_softmax(z))
    slope = p - jax.lax.stop_gradient(p)  # exactly 0, but its derivative is not
    return _own_entropy(z), jnp.sum(slope * jnp.where(z == -jnp.inf, 0, dz), -1)


def _negative_entropy(z):
    log_p = numerics.log_softmax(z)
    some = log_p > -jnp.inf
    log_p = jnp.where(some, log_p, 0)
    return jnp.sum(jnp.where(some, jnp.exp(log_p) * log_p, 0), -1)


def confidence_penalty(
    logits: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the entropy of the probabilities, to be added to a loss.

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

    >>> confidence_penalty(jnp.float32([2, 1, 0]))
    Array(-0.08323956, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    return beta * _negative_entropy(z)


def confidence_penalised_ce(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lam: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of a set of examples plus a price on confidence: one number.

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
      ValueError: wrong shapes, a label out of range (NaN under ``jit``), or ``lam``
        outside [0, 1].

    Numerics: relative error below 1e-5 of the cross-entropy.

    Source: What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025,
      arXiv:2510.04067; from a description of the paper [inferred].

    >>> z = jnp.float32([[2, 1, 0], [0, 3, 1], [1, 0, 2], [0, 1, 2]])
    >>> print(f"{confidence_penalised_ce(z, jnp.array([0, 1, 0, 0]), lam=0.5):.4f}")
    1.1385
    """
    checked("lam", lam, lambda v: (v >= 0) & (v <= 1), "a number from 0 to 1")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    y, keep = jnp.asarray(labels), numerics.kept(mask, z.shape[:-1])
    if mask is not None:
        y = jnp.where(keep, y, 0) if y.shape == keep.shape else y
        z = jnp.where(keep[..., None], z, 0)
    nll = numerics.label_nll(z, y)
    rank = metrics.rank_error(z, y)
    iota = jax.lax.broadcasted_iota(rank.dtype, z.shape, z.ndim - 1)
    hit = (iota == rank[..., None]) & keep[..., None]
    examples = tuple(range(nll.ndim))
    count = jnp.sum(hit, examples, dtype=z.dtype)
    # Divided before they are added, so that no sum overflows.
    share = nll[..., None] / jnp.maximum(count, 1).reshape((1,) * nll.ndim + (-1,))
    log_q = -jnp.sum(jnp.where(hit, share, 0), examples)
    confidence = numerics.logsumexp(log_q, where=count > 0)
    # Without examples, or where cross-entropy is infinite anyway.
    confidence = jnp.where(confidence == -jnp.inf, 0, confidence)
    total = jnp.maximum(jnp.sum(keep, dtype=z.dtype), 1)
    return jnp.sum(jnp.where(keep, nll / total, 0)) + lam * confidence


def z_regularization(
    logits: ArrayLike,
    *,
    coef: ArrayLike = 1e-4,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared log-partition of the logits, to be added to a loss.

    .. math:: \ell = k \Bigl(\log \sum_c e^{z_c}\Bigr)^2

    Not to be confused with ``z_loss``.

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

    >>> z_regularization(jnp.float32([2, 1, 0]))
    Array(0.00057966, dtype=float32)
    """
    total = numerics.logsumexp(logits, axis=axis, where=where)
    total = jnp.where(total == -jnp.inf, 0, total)
    return coef * total * total


def brier_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Brier score: squared error between the probabilities and the one-hot label.

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
      ValueError: wrong label shape, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, as long as the squares of
      the probabilities are normal numbers (margins up to 43).

    Source: Brier 1950; golden values: baselines of Optimization-AI/ICML2023_LDR.

    >>> brier_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.18006113, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    nll = numerics.label_nll(z, labels)
    is_label, _ = label_mask(z, labels)
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
      ValueError: wrong label shape, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, as long as the squares of
      the probabilities are normal numbers (margins up to 43).

    Source: Good 1971; Gneiting and Raftery 2007.

    >>> spherical_score_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.06897188, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    doubled = 2 * (z - jnp.where(top == -jnp.inf, 0, top))
    return -jnp.expm1(-numerics.label_nll(doubled, labels) / 2)


def _only_logits(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    rows.Row(
        label_smoothing_loss,
        "example",
        rows.class_labels,
        "Szegedy et al. 2016, arXiv:1512.00567",
        golden="standard_losses",
        convex=True,
        calibrated=True,
    ),
    rows.Row(
        logit_norm_loss,
        "example",
        rows.class_labels,
        "Wei et al. 2022, arXiv:2205.09310",
        shift_invariant=False,
        cost="the direction of the logits is another array",
    ),
    rows.Row(
        bootstrapping_loss,
        "example",
        rows.class_labels,
        "Reed et al. 2015, arXiv:1412.6596",
        surrogate="the model's own probabilities are held fixed",
    ),
    rows.Row(
        confidence_penalty,
        "example",
        _only_logits,
        "Pereyra et al. 2017, arXiv:1701.06548",
        lower=None,
        upper=0.0,
        note="a penalty, without labels",
        cost="probabilities, their logarithms and products are arrays",
    ),
    rows.Row(
        confidence_penalised_ce,
        "batch",
        rows.class_labels,
        "What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025, arXiv:2510.04067",
        hyper={"lam": 0.5},
        note="the value jumps where the rank of a label changes",
    ),
    rows.Row(
        z_regularization,
        "example",
        _only_logits,
        "PaLM, Chowdhery et al. 2022, arXiv:2204.02311",
        shift_invariant=False,
        note="a penalty, without labels",
    ),
    rows.Row(
        brier_loss,
        "example",
        rows.class_labels,
        "Brier 1950",
        golden="robust_baselines",
        upper=2.0,
        calibrated=True,
        proper=True,
        cost="exact differences of all probabilities are kept",
    ),
    rows.Row(
        spherical_score_loss,
        "example",
        rows.class_labels,
        "Gneiting and Raftery 2007",
        upper=1.0,
        calibrated=True,
        proper=True,
    ),
)
