"""Overlap losses: soft Dice, Tversky and the self-adjusting DSC; Lovasz extensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import (
    as_binary,
    elementwise,
    hyper,
    one_hot_mask,
    whole,
)

__all__ = [
    "class_dice_loss",
    "dice_loss",
    "dsc_loss",
    "focal_tversky_loss",
    "generalized_dice_loss",
    "tversky_loss",
]


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
    r"""Soft Dice loss over a whole set of examples: one number.

    Use it when overlap of a mask is what counts, in one number for a set.

    .. math:: 1 - \frac{2 \sum p t + g}{\sum p^2 + \sum t^2 + g}

    with the sums over the examples, or with first powers below. For integer labels of
    classes, p is the softmax, and the numbers of the classes are added.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits``: one binary problem with all of them as its set
        (sigmoid).
      smooth: g, from 0 on. With 0, a set (or class) without labels costs 1, and slopes
        nowhere.
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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dice_loss
    >>> dice_loss(jnp.float32([40, -40]), jnp.array([1, 0]))
    Array(1.2032342e-35, dtype=float32)
    """
    each = np.ndim(logits) != np.ndim(labels)
    shared = smooth, square, alpha, axis, where, mask
    return _dice(logits, labels, *shared, each).sum()


def class_dice_loss(
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
    r"""Soft Dice loss of each class over a whole set: one number per class.

    Use it when you report the Dice score of every class.

    .. math:: \ell_c = 1 - \frac{2 \sum p_c t_c + g}{\sum p_c^2 + \sum t_c^2 + g}

    with the sums over the examples, or with first powers below. For weights of classes,
    or a mean over those that occur; ``dice_loss`` is the sum. One number per image and
    class comes from ``jax.vmap``.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> [C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits`` (sigmoid: overlapping classes).
      smooth: g, from 0 on. A class that no example has costs
        :math:`\sum p^2 / (\sum p^2 + g)`; with 0 that is 1, which slopes nowhere.
      square: squares in the denominator or first powers.
      alpha: p is replaced by :math:`(1 - p)^\alpha p`.
      axis: the class axis of ``logits`` and ``where`` (and of such ``labels``).
      where: bool, the classes that take part. A class that never does costs 0.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      Numbers without unit in [0, 1], float32 (float64 for float64 logits). A hidden
      label has the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, ``smooth`` or ``alpha`` below 0, or a label of C or
        more; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Milletari et al. 2016, arXiv:1606.04797; Li et al. 2020, arXiv:1911.02855.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import class_dice_loss
    >>> print(class_dice_loss(jnp.float32([[40, 0], [40, 0]]), jnp.array([0, 1])))
    [0.25 0.5 ]
    """
    shared = smooth, square, alpha, axis, where, mask
    return _dice(logits, labels, *shared, True)


def generalized_dice_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    power: float = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Generalised Dice: all classes in one ratio, rare ones weighted up; one number.

    Use it when regions of rare classes should count as much.

    .. math:: 1 - 2\, \frac{\sum_c w_c \sum p_c t_c}{\sum_c w_c \sum (p_c + t_c)},
        \quad w_c = \Bigl(\sum t_c\Bigr)^{-q}

    with the inner sums over the examples of the set.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits`` (sigmoid: overlapping classes).
      power: q, from 0 on: 2 is the paper's, 1 weights by frequency, 0 not at all. A
        class that no example has weighs as much as the rarest that some example has,
        as in the authors' code.
      axis: the class axis of ``logits`` and ``where`` (and of such ``labels``).
      where: bool, the classes that take part.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      A scalar without unit, in [0, 1], float32 (float64 for float64 logits): 1 for a
      set without any label, 0 for one without examples. A hidden label has the cost of
      a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, ``power`` below 0, or a label of C or more; under
        ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Sudre et al. 2017, arXiv:1707.03237.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import generalized_dice_loss
    >>> print(generalized_dice_loss(jnp.float32([[40, 0], [40, 0]]), jnp.array([0, 1])))
    0.5
    """
    z, log_p, keep, some, t = _terms(logits, labels, axis, where, mask)
    q = hyper("power", power, z.dtype, lambda q: q >= 0, "a number from 0 on")
    axes = tuple(range(z.ndim - 1))
    wrong, hit = _overlap(log_p, keep, t, square=False)
    count = jnp.where(keep, t, 0).sum(axes)
    # Measured from the rarest class, which has weight 1, as one without examples has.
    rarest = jnp.min(jnp.where(count > 0, count, jnp.inf))
    weight = jnp.where(count > 0, rarest / jnp.where(count > 0, count, 1), 1) ** q
    wrong, hit = weight * wrong.sum(axes), weight * hit.sum(axes)
    return _share(wrong.sum(), hit.sum(), some.any())


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
    r"""Self-adjusting Dice loss, one value per example.

    Use it when you want Dice for each example, for imbalanced tagging.

    .. math:: 1 - \frac{2 w t + g}{w^2 + t^2 + g}, \quad w = (1 - p)^\alpha p

    or with first powers in the denominator (the paper's). For integer labels of
    classes, p is the softmax, and the numbers of the classes are added.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits`` (sigmoid: one value per logit).
      alpha: from 0 on; how much an easy example is weighted down.
      smooth: g, from 0 on. With 0, what has no label costs 1, and slopes nowhere.
      square: squares in the denominator (the authors' scripts) or first powers.
      denominator: ``example``, or ``batch``: a quirk of the authors' code for classes
        without squares, which divides by the sums over the whole batch (those with a
        label). It makes each number depend on the other examples.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes (sigmoid: the logits) that take part.

    Returns:
      Numbers without unit, float32 (float64 for float64 logits). A hidden label has
      the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong shapes, ``smooth`` or ``alpha`` below 0, an unknown
        ``denominator``, or a label of C or more; under ``jit``, where values are
        unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``denominator="batch"`` rounds at 1e-7 of its denominator.

    Source: Li et al. 2020, arXiv:1911.02855; ShannonAI/dice_loss_for_NLP.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dsc_loss
    >>> print(dsc_loss(jnp.float32([2, 0, 0]), 0, alpha=0.0).round(4))
    0.0398
    """
    if denominator not in ("example", "batch"):
        raise ValueError(
            f"denominator is {denominator!r}, expected 'example' or 'batch'"
        )
    each = np.ndim(logits) != np.ndim(labels)
    z, log_p, keep, some, t = _terms(logits, labels, axis, where, None)
    bad = jnp.isnan(t)  # kept out of the arithmetic, whose slopes it would spoil
    t, keep, some = jnp.where(bad, 0, t), keep & ~bad, some & ~bad
    g = _from_0("smooth", smooth, z)
    log_w = _focused(z, log_p, alpha, each)
    wrong, hit = _overlap(log_w, keep, t, square)
    if denominator == "batch":
        axes = tuple(range(z.ndim - each))
        total = jnp.where(keep, wrong + hit, 0).sum(axes, keepdims=True)
        wrong = jnp.where(keep, total - hit, 0)
    losses = _share(wrong, hit + g, some)
    if each:
        return jnp.where(bad.any(-1), jnp.nan, losses.sum(-1))
    return elementwise(losses, keep | bad, bad, axis=axis, like=logits)


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
    r"""Tversky loss over a whole set of examples: one number.

    Use it when missing a pixel and marking one too many differ in price.

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
      ValueError: wrong shapes, a negative hyper-parameter, or a label of C or more;
        under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Salehi et al. 2017, arXiv:1706.05721; Li et al. 2020, arXiv:1911.02855.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import tversky_loss
    >>> tversky_loss(jnp.float32([0, 0]), jnp.array([1, 0]), smooth=0.0)
    Array(0.5, dtype=float32)
    """
    return _tversky(logits, labels, alpha, beta, smooth, axis, where, mask).sum()


def focal_tversky_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 4 / 3,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal Tversky: roots of Tversky losses, for small regions; one number.

    Use it when small regions are lost in large ones.

    .. math:: \sum_c (1 - \mathrm{TI}_c)^{1/\gamma}

    with :math:`1 - \mathrm{TI}_c` the ``tversky_loss`` of class c alone, or of all
    logits for binary labels.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, or floats between, of
        the shape of ``logits``: one binary problem with all of them as its set
        (sigmoid).
      gamma: positive, in the paper from 1 to 3; 1 is ``tversky_loss``. Some code calls
        its reciprocal gamma.
      alpha: price of a false positive, from 0 on. The paper's alpha is our beta.
      beta: price of a false negative, from 0 on.
      smooth: g of ``tversky_loss``, from 0 on. With 0, a set (or class) without labels
        costs 1, and slopes nowhere.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes (sigmoid: the logits) that take part.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      A scalar without unit, in [0, 1] per class, float32 (float64 for float64 logits).
      A hidden label has the cost of a probability of 0, which is finite.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, a hyper-parameter out of its range, or a label of C or
        more; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80. Where
      a Tversky loss is 0 (or below 1e-38), so is its slope.

    Source: Abraham and Khan 2018, arXiv:1810.07842.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import focal_tversky_loss
    >>> print(focal_tversky_loss(jnp.float32([0, 0]), jnp.array([1, 0])).round(4))
    0.3536
    """
    index = _tversky(logits, labels, alpha, beta, smooth, axis, where, mask)
    gamma = hyper("gamma", gamma, index.dtype, lambda v: v > 0, "a positive number")
    some = index != 0
    return jnp.where(some, jnp.where(some, index, 1) ** (1 / gamma), 0).sum()


def _tversky(logits, labels, alpha, beta, smooth, axis, where, mask):
    each = np.ndim(logits) != np.ndim(labels)
    z, log_p, keep, some, t = _terms(logits, labels, axis, where, mask)
    a, b, g = (
        _from_0(name, value, z)
        for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth))
    )
    axes = tuple(range(z.ndim - each))
    hit = jnp.where(keep, jnp.exp(log_p) * t, 0).sum(axes)
    false_positive = jnp.where(keep, jnp.exp(log_p) * (1 - t), 0).sum(axes)
    false_negative = jnp.where(keep, -numerics.expm1(log_p) * t, 0).sum(axes)
    wrong = a * false_positive + b * false_negative
    return _share(wrong, hit + g, some.any(axes) & (a > 0))


def _dice(logits, labels, smooth, square, alpha, axis, where, mask, each):
    """Dice of the whole set, or with ``each`` of each class."""
    z, log_p, keep, some, t = _terms(logits, labels, axis, where, mask)
    g = _from_0("smooth", smooth, z)
    softmax = np.ndim(logits) != np.ndim(labels)
    wrong, hit = _overlap(_focused(z, log_p, alpha, softmax), keep, t, square)
    axes = tuple(range(z.ndim - each))
    return _share(wrong.sum(axes), hit.sum(axes) + g, some.any(axes))


def _terms(logits, labels, axis, where, mask):
    """What all these losses are made of, classes last.

    Logits, their log-probabilities, which of them count, which of those also have a
    probability, and the labels between 0 and 1 (NaN for one that is none).
    """
    if np.ndim(logits) == np.ndim(labels):
        kept = numerics.check_mask(mask, np.shape(logits))
        if np.shape(labels) == kept.shape:
            labels = jnp.where(kept, whole(labels), 0)
        z, t, shown, bad = as_binary(logits, labels, axis, where)
        kept = jnp.moveaxis(kept, axis, -1) if kept.ndim else kept[None]
        keep = shown & kept
        z, t = jnp.where(keep, z, 0), jnp.where(bad & keep, jnp.nan, t)
        return z, -jax.nn.softplus(-z), keep, keep, t
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    kept = numerics.check_mask(mask, z.shape[:-1])
    if np.shape(labels) == kept.shape:
        labels = jnp.where(kept, whole(labels), 0)
    z = jnp.where(kept[..., None], z, 0)
    one, known = one_hot_mask(z, labels)
    t = jnp.where(known[..., None], one.astype(z.dtype), jnp.nan)
    # A hidden class keeps its label: a probability of 0 is what it costs.
    shown = z != -jnp.inf
    keep = kept[..., None] & (shown | shown.any(-1, keepdims=True))
    return z, numerics.log_softmax(z), keep, keep & shown, t


def _focused(z, log_p, alpha, softmax):
    """Log of ``(1 - p) ** alpha * p``."""
    a = _from_0("alpha", alpha, z)
    if isinstance(alpha, int | float) and alpha == 0:
        return log_p
    log_rest = _log_rest(z, log_p, softmax)
    # Nothing but this class: 0 ** alpha, without the slope of a logarithm at 0.
    certain = log_rest == -jnp.inf
    log_w = log_p + a * jnp.where(certain, 0, log_rest)
    return jnp.where(certain & (a > 0), -jnp.inf, log_w)


def _log_rest(z, log_p, softmax):
    """``log(1 - p)``; of the top class from the scores of the others."""
    if not softmax:
        return -jax.nn.softplus(z)
    iota = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    top = iota == jnp.argmax(z, -1).astype(jnp.int32)[..., None]
    small = jnp.where(top, -jnp.inf, log_p)
    others = numerics.logsumexp(small)[..., None] if z.shape[-1] > 1 else -jnp.inf
    return jnp.where(top, others, jnp.log1p(-jnp.exp(jnp.minimum(small, -0.69))))


def _overlap(log_w, keep, t, square):
    """What is wrong with each logit, and what is right: twice the overlap."""
    w, miss = jnp.exp(log_w), -numerics.expm1(log_w) * t
    extra = w * (1 - t)
    wrong = jnp.square(miss - extra) if square else miss + extra
    return jnp.where(keep, wrong, 0), jnp.where(keep, 2 * w * t, 0)


def _share(wrong, right, some):
    """``wrong / (wrong + right)``, whose slope is no difference of large numbers.

    Where both are 0, all that counts has too small a probability to be seen and is
    wrong: 1 if there is ``some``, or else 0.
    """
    size = jax.lax.stop_gradient(jnp.maximum(wrong, right))
    none = size == 0
    wrong, right = (a / jnp.where(none, 1, size) for a in (wrong, right))
    most = wrong >= right
    ratio = jnp.where(most, right, wrong)
    ratio = ratio / jnp.where(none, 1, jnp.where(most, wrong, right))
    share = jnp.where(most, 1, ratio) / (1 + ratio)
    return jnp.where(none, some.astype(share.dtype), share)


def _from_0(name, value, z):
    return hyper(name, value, z.dtype, lambda v: v >= 0, "a number from 0 on")
