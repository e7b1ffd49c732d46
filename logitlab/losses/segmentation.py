"""Overlap losses: soft Dice, Tversky and the self-adjusting DSC."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.rows import Row, class_labels

__all__ = ["dice_loss", "dsc_loss", "tversky_loss"]

_SOURCE = "Dice Loss for Data-imbalanced NLP Tasks, Li et al. 2020, arXiv:1911.02855"


def dice_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    smooth: float = 1.0,
    square: bool = True,
    alpha: float = 0.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Soft Dice of a whole set of examples: one number.

    .. math:: 1 - \frac{2 \sum p t + g}{\sum p^2 + \sum t^2 + g}

    with the sums over the examples, or with first powers below. For integer labels of
    classes, p is the softmax, and the numbers of the classes are added.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits``: one binary problem with all of them as its set
        (sigmoid).
      smooth: g, from 0 on. With 0, a set without labels and probability costs 0.
      square: squares in the denominator (the paper's) or first powers.
      alpha: p is replaced by :math:`(1 - p)^\alpha p`, as the authors' code does.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes (sigmoid: the logits) that take part.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      A scalar without unit, in [0, 1] per class, float32 (float64 for float64 logits).
      A hidden label has the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, ``smooth`` or ``alpha`` below 0, or a label out of
        range; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80: the
      numerator is summed as :math:`(p - t)^2`, the misses by their own probability.

    Source: Li et al. 2020, arXiv:1911.02855. The authors' code does this for one
      sigmoid output; for several classes see ``dsc_loss``.

    >>> dice_loss(jnp.float32([40, -40]), jnp.array([1, 0]))
    Array(1.2032342e-35, dtype=float32)
    """
    _check("smooth", smooth, lambda v: v >= 0, "a number from 0 on")
    log_w, keep, t, per_class = _terms(logits, labels, alpha, axis, where, mask)
    wrong, size = _overlap(log_w, t, square, keep)
    axes = tuple(range(wrong.ndim - per_class))
    return _over(wrong.sum(axes), size.sum(axes) + smooth).sum()


def dsc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 1.0,
    smooth: float = 1.0,
    square: bool = True,
    denominator: str = "example",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Self-adjusting Dice, one value per example.

    .. math:: 1 - \frac{2 w t + g}{w^2 + t^2 + g}, \quad w = (1 - p)^\alpha p

    or with first powers in the denominator (the paper's). For integer labels of
    classes, p is the softmax, and the numbers of the classes are added.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits`` (sigmoid: one value per logit).
      alpha: from 0 on; how much an easy example is weighted down.
      smooth: g, from 0 on.
      square: squares in the denominator (the authors' scripts) or first powers.
      denominator: ``example``, or ``batch``: a quirk of the authors' code for classes
        without squares, which divides by the sums over the whole batch. It makes each
        number depend on the other examples.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes (sigmoid: the logits) that take part.

    Returns:
      Numbers without unit, float32 (float64 for float64 logits). A hidden label has
      the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong shapes, ``smooth`` or ``alpha`` below 0, an unknown
        ``denominator``, or a label out of range; under ``jit``, where values are
        unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80
      (alpha 0: a confident right answer included).

    Source: Li et al. 2020, arXiv:1911.02855; ShannonAI/dice_loss_for_NLP.

    >>> print(dsc_loss(jnp.float32([2, 0, 0]), 0, alpha=0.0).round(4))
    0.0398
    """
    _check("smooth", smooth, lambda v: v >= 0, "a number from 0 on")
    if denominator not in ("example", "batch"):
        raise ValueError(
            f"denominator is {denominator!r}, expected 'example' or 'batch'"
        )
    log_w, keep, t, per_class = _terms(logits, labels, alpha, axis, where, None)
    bad = jnp.isnan(t)  # kept out of the arithmetic, whose slopes it would spoil
    t = jnp.where(bad, 0, t)
    wrong, size = _overlap(log_w, t, square, keep)
    if denominator == "batch":
        # 1 - (2 w t + g) / (sums + g), from the overlap of the example alone.
        overlap = jnp.where(keep, 2 * jnp.exp(log_w) * t, 0)
        axes = tuple(range(wrong.ndim - per_class))
        total = size.sum(axes, keepdims=True)
        losses = _over(total - overlap, jnp.broadcast_to(total + smooth, wrong.shape))
    else:
        losses = _over(wrong, size + smooth)
    if per_class:
        losses, bad = losses.sum(-1), bad.any(-1)
    return jnp.where(bad, jnp.nan, losses)


def tversky_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Tversky index of a whole set of examples: one number.

    .. math:: 1 - \frac{\sum p t + g}
        {\sum p t + \alpha \sum p (1 - t) + \beta \sum (1 - p) t + g}

    with the sums over the examples. For integer labels of classes, p is the softmax,
    and the numbers of the classes are added.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits``: one binary problem with all of them as its set
        (sigmoid).
      alpha: price of a false positive, from 0 on.
      beta: price of a false negative, from 0 on. Both a half is Dice with first powers
        and ``2 * smooth``.
      smooth: g, from 0 on.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes (sigmoid: the logits) that take part.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      A scalar without unit, in [0, 1] per class, float32 (float64 for float64 logits).
      A hidden label has the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, a negative hyper-parameter, or a label out of range;
        under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Salehi et al. 2017, arXiv:1706.05721; Li et al. 2020, arXiv:1911.02855.

    >>> tversky_loss(jnp.float32([0, 0]), jnp.array([1, 0]), smooth=0.0)
    Array(0.5, dtype=float32)
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
        _check(name, value, lambda v: v >= 0, "a number from 0 on")
    log_p, keep, t, per_class = _terms(logits, labels, 0.0, axis, where, mask)
    hit = jnp.where(keep, jnp.exp(log_p) * t, 0)
    false_positive = jnp.where(keep, jnp.exp(log_p) * (1 - t), 0)
    false_negative = jnp.where(keep, _one_minus_exp(log_p) * t, 0)
    axes = tuple(range(hit.ndim - per_class))
    wrong = alpha * false_positive.sum(axes) + beta * false_negative.sum(axes)
    return _over(wrong, hit.sum(axes) + wrong + smooth).sum()


def _terms(logits, labels, alpha, axis, where, mask):
    """``log w`` of every logit, what takes part, labels as 0 and 1, 1 for softmax."""
    _check("alpha", alpha, lambda v: v >= 0, "a number from 0 on")
    if jnp.ndim(logits) == jnp.ndim(labels):
        z, keep, t = _binary(logits, labels, where, mask)
        log_p, log_rest = -jnp.logaddexp(0, -z), -jnp.logaddexp(0, z)
        return _focused(log_p, log_rest, alpha), keep, t, 0
    z, t = _one_hot(logits, labels, axis, where, mask)
    log_p = numerics.log_softmax(z)
    rest = None if _is_zero(alpha) else _log_complement(z, log_p)
    keep = jnp.broadcast_to((z > -jnp.inf).any(-1, keepdims=True), z.shape)
    if mask is not None:
        keep = keep & jnp.asarray(mask)[..., None]
    # A hidden class keeps its label: a probability of 0 is what it costs.
    return _focused(log_p, rest, alpha), keep, t, 1


def _focused(log_p, log_rest, alpha):
    if _is_zero(alpha):
        return log_p
    # Nothing but this class: 0 ** alpha, without the slope of a logarithm at 0.
    certain = log_rest == -jnp.inf
    log_w = log_p + alpha * jnp.where(certain, 0, log_rest)
    return jnp.where(certain & (jnp.asarray(alpha) > 0), -jnp.inf, log_w)


def _log_complement(z, log_p):
    """``log(1 - p)`` of each class, for the top class from the scores of the others."""
    classes = z.shape[-1]
    iota = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    top = iota == jnp.argmax(z, -1).astype(jnp.int32)[..., None]
    small = jnp.where(top, -jnp.inf, log_p)
    others = numerics.logsumexp(small)[..., None] if classes > 1 else -jnp.inf
    return jnp.where(top, others, jnp.log1p(-jnp.exp(jnp.minimum(small, -0.69))))


def _overlap(log_w, t, square, keep):
    """Per logit: what is wrong, and the size, with 1 - loss = (size - wrong) / size."""
    w, miss = jnp.exp(log_w), _one_minus_exp(log_w) * t
    extra = w * (1 - t)
    if square:
        wrong, size = jnp.square(miss - extra), jnp.square(w) + jnp.square(t)
    else:
        wrong, size = miss + extra, w + t
    return jnp.where(keep, wrong, 0), jnp.where(keep, size, 0)


def _one_minus_exp(x):
    """``1 - exp(x)`` for x <= 0; the slope of ``expm1`` itself rounds to 0 far down."""
    near = x > -0.69
    return jnp.where(near, -jnp.expm1(jnp.where(near, x, 0)), 1 - jnp.exp(x))


def _over(wrong, size):
    empty = size == 0
    return jnp.where(empty, 0, wrong / jnp.where(empty, 1, size))


def _binary(logits, labels, where, mask):
    z, t = numerics.promote(logits), jnp.asarray(labels)
    if t.shape != z.shape:
        raise ValueError(f"labels has shape {t.shape}, expected {z.shape}")
    keep = (z > -jnp.inf) & _mask(where, z.shape, "where", True)
    keep &= _mask(mask, z.shape, "mask")
    z = jnp.where(keep, z, 0)
    if jnp.issubdtype(t.dtype, jnp.floating):
        return z, keep, jnp.where(keep, t, 0).astype(z.dtype)
    t = jnp.where(keep, t, 0).astype(jnp.int32)
    # The check of the labels, and nothing else: 0 or NaN.
    known = numerics.label_nll(jnp.zeros((*t.shape, 2), z.dtype), t) * 0
    return z, keep, t.astype(z.dtype) + known


def _one_hot(logits, labels, axis, where, mask):
    z, y = numerics.class_axis_last(logits, axis=axis, where=where), jnp.asarray(labels)
    if mask is not None:
        kept = _mask(mask, z.shape[:-1], "mask")
        y = jnp.where(kept, y, 0) if y.shape == kept.shape else y
        z = jnp.where(kept[..., None], z, 0)
    # 0 or NaN: the check of the labels, and nothing else.
    known = numerics.label_nll(jnp.zeros(z.shape, z.dtype), y) * 0
    iota = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    one = (iota == y.astype(jnp.int32)[..., None]).astype(z.dtype)
    return z, one + known[..., None]


def _mask(mask, shape, name, broadcast=False):
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected bool")
    if broadcast:
        try:
            return jnp.broadcast_to(mask, shape)
        except ValueError:
            pass
    if mask.shape != shape:
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}")
    return mask


def _is_zero(value):
    return isinstance(value, int | float) and value == 0


def _check(name, value, ok, expected):
    fine = ok(value)  # traced if the value is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"{name} is {value}, expected {expected}")


ROWS = (
    Row(dice_loss, "batch", class_labels, _SOURCE, golden="dice_loss"),
    Row(
        dsc_loss,
        "example",
        class_labels,
        _SOURCE,
        golden="dice_loss",
        calibrated=False,
        cost="powers of all probabilities, exact near 0 and near 1",
    ),
    Row(tversky_loss, "batch", class_labels, _SOURCE),
)
