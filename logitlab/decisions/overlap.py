"""Masks that maximise the expected Dice or IoU instead of crossing a threshold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = [
    "dice_score",
    "iou_score",
    "dice_optimal_mask",
    "iou_optimal_mask",
    "rank_volume",
    "rankseg_rma",
]


def rank_volume(
    probs: ArrayLike,
    *,
    metric: str = "dice",
    smooth: float = 0.0,
    solver: str = "rma",
    tail: float = 1e-4,
) -> jax.Array:
    r"""Number of most probable pixels with the largest expected Dice or IoU.

    Use it when only the size of the mask is wanted.

    .. math:: t^* = \arg\max_t \frac{2 S_t}{\mu + t + 1 + g} + \frac{g}{\mu + t + g}
        \;(\text{dice}), \quad \frac{S_t + g}{\mu - S_t + t + g} \;(\text{iou})

    with S the sum of the t largest of d probabilities and :math:`\mu = S_d`. The solver
    ``ba``, for Dice, is the slower blind approximation: the expectations over the
    number of positives, by its refined normal law, instead of its mean.

    Shapes: probs [B, C, ...] -> [B, C]

    Args:
      probs: probabilities; pixels on all axes from the third on.
      metric: ``dice`` or ``iou``.
      smooth: g, from 0 on.
      solver: ``rma``, O(d log d), or ``ba``, O(d^2).
      tail: for ``ba``, the mass that the law loses on either side.

    Returns:
      int32 from 1 to d, the first maximum.

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: wrong shape or an unknown option.

    Source: RankSEG-RMA, arXiv:2510.15362; RankSEG, Dai and Li 2023.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import rank_volume
    >>> rank_volume(jnp.float32([[[0.9, 0.4, 0.1]]]))
    Array([[2]], dtype=int32)
    """
    p = _pixels(probs)
    _check_metric(metric, smooth)
    if solver not in ("rma", "ba"):
        raise ValueError(f"solver is {solver!r}, expected 'rma' or 'ba'")
    smooth = jnp.asarray(smooth, p.dtype)
    top = jnp.cumsum(-jnp.sort(-p, -1), -1)
    t = jax.lax.broadcasted_iota(p.dtype, p.shape, p.ndim - 1) + 1
    mu = p.sum(-1, keepdims=True)
    if solver == "ba":
        if metric != "dice":
            raise ValueError("metric is 'iou', expected 'dice' with solver 'ba'")
        score = _blind_dice(p, top, smooth, tail)
    elif metric == "dice":
        score = 2 * top / (mu + t + 1 + smooth) + smooth / (mu + t + smooth)
    else:
        score = (top + smooth) / (mu - top + t + smooth)
    return jnp.argmax(score, -1).astype(jnp.int32) + 1


def dice_optimal_mask(
    probs: ArrayLike,
    *,
    smooth: float = 0.0,
    pruning_prob: float = 0.5,
    solver: str = "rma",
) -> jax.Array:
    """Masks with the largest expected Dice score, each class on its own.

    Use it in place of a threshold of 1/2 when Dice is what you report.

    Shapes: probs [B, C, ...] -> [B, C, ...]

    Args:
      probs: probabilities; pixels on all axes from the third on.
      smooth: of the Dice, from 0 on.
      pruning_prob: a class whose largest probability does not exceed it stays empty; 0
        for the pure rule.
      solver: ``rma`` or ``ba``, see ``rank_volume``.

    Returns:
      bool. Ties go to the pixel that comes first.

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: wrong shape or an unknown option.

    Source: RankSEG, Dai and Li 2023; arXiv:2510.15362.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import dice_optimal_mask
    >>> dice_optimal_mask(jnp.float32([[[0.9, 0.4, 0.1]]]))
    Array([[[ True,  True, False]]], dtype=bool)
    """
    masks = _masks(_pixels(probs), "dice", smooth, pruning_prob, solver)
    return masks.reshape(jnp.shape(probs))


def iou_optimal_mask(
    probs: ArrayLike, *, smooth: float = 0.0, pruning_prob: float = 0.5
) -> jax.Array:
    """Masks with the largest expected IoU, each class on its own.

    Use it in place of a threshold of 1/2 when IoU is what you report.

    The arguments, returns and errors are those of ``dice_optimal_mask``.

    Shapes: probs [B, C, ...] -> [B, C, ...]

    Source: arXiv:2510.15362.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import iou_optimal_mask
    >>> iou_optimal_mask(jnp.float32([[[0.9, 0.4, 0.1]]]))
    Array([[[ True,  True, False]]], dtype=bool)
    """
    masks = _masks(_pixels(probs), "iou", smooth, pruning_prob, "rma")
    return masks.reshape(jnp.shape(probs))


def rankseg_rma(
    probs: ArrayLike,
    *,
    metric: str = "dice",
    smooth: float = 0.0,
    output_mode: str = "multiclass",
    pruning_prob: float = 0.5,
    unassigned: str = "max_score",
    void_index: int = 255,
) -> jax.Array:
    r"""Segmentation for Dice or IoU by the reciprocal moment approximation.

    For ``multilabel`` a mask per class, as ``dice_optimal_mask`` and
    ``iou_optimal_mask``. For ``multiclass`` a pixel that one mask claims is that
    class's; the others go to the class whose approximate score they raise most, given
    what it has for sure (count :math:`t_M`, mass :math:`\mu_M`):

    .. math:: 2 \Big[\frac{\mu_M + p + g}{t_M + \mu + 2 + g} -
        \frac{\mu_M + g}{t_M + \mu + 1 + g}\Big] \;(\text{dice}), \quad
        \frac{\mu_M + p + g}{t_M + \mu - \mu_M - p + 1 + g} -
        \frac{\mu_M + g}{t_M + \mu - \mu_M + g} \;(\text{iou})

    Shapes: probs [B, C, ...] -> [B, ...] (multiclass), [B, C, ...] (multilabel)

    Args:
      probs: probabilities; pixels on all axes from the third on.
      metric: ``dice`` or ``iou``.
      smooth: g, from 0 on.
      output_mode: ``multiclass`` or ``multilabel``.
      pruning_prob: a class whose largest probability does not exceed it stays empty,
        even where the metric would prefer a mask; 0 for the pure rule.
      unassigned: what becomes of a pixel that no mask claims: ``max_score``, as above,
        or ``void``.
      void_index: the class of a void pixel.

    Returns:
      int32 classes, or a bool mask per class. Ties go to the first pixel or class.

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: wrong shape or an unknown option.

    Source: arXiv:2510.15362; rankseg/rankseg.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import rankseg_rma
    >>> jax.jit(rankseg_rma)(jnp.float32([[[0.9, 0.4], [0.1, 0.6]]]))
    Array([[0, 1]], dtype=int32)
    """
    if output_mode not in ("multiclass", "multilabel"):
        raise ValueError(
            f"output_mode is {output_mode!r}, expected 'multiclass' or 'multilabel'"
        )
    if unassigned not in ("max_score", "void"):
        raise ValueError(
            f"unassigned is {unassigned!r}, expected 'max_score' or 'void'"
        )
    p = _pixels(probs)
    masks = _masks(p, metric, smooth, pruning_prob, "rma")
    shape = jnp.shape(probs)
    if output_mode == "multilabel":
        return masks.reshape(shape)
    claims, smooth = masks.sum(1), jnp.asarray(smooth, p.dtype)
    sure = masks & (claims == 1)[:, None]
    count = sure.sum(-1, keepdims=True).astype(p.dtype)
    mass = jnp.where(sure, p, 0).sum(-1, keepdims=True)
    mu = p.sum(-1, keepdims=True)
    if metric == "dice":
        gain = (mass + p + smooth) / (count + mu + 2 + smooth)
        gain = 2 * (gain - (mass + smooth) / (count + mu + 1 + smooth))
    else:
        now = count + mu - mass + smooth
        gain = (mass + p + smooth) / jnp.maximum(now - p + 1, 1e-12)
        gain = gain - (mass + smooth) / jnp.maximum(now, 1e-12)
    pruned = p.max(-1, keepdims=True) <= pruning_prob
    best = jnp.argmax(jnp.where(pruned, -jnp.inf, gain), 1)
    chosen = jnp.where(claims == 1, jnp.argmax(masks, 1), best)
    if unassigned == "void":
        chosen = jnp.where(claims == 0, void_index, chosen)
    return chosen.astype(jnp.int32).reshape(shape[0], *shape[2:])


def dice_score(pred: ArrayLike, target: ArrayLike, *, smooth: float = 0.0) -> jax.Array:
    r"""Dice of masks, one value per image and class.

    .. math:: \frac{2 |A \cap B| + g}{|A| + |B| + g}

    Shapes: pred [B, C, ...], target [B, C, ...] -> [B, C]

    Two empty masks agree: 1. The case is ours to decide with ``smooth=0``.

    Source: arXiv:2510.15362.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import dice_score
    >>> dice_score(jnp.array([[[1, 1, 0]]]), jnp.array([[[1, 0, 0]]]))
    Array([[0.6666667]], dtype=float32)
    """
    both, either, _ = _overlap(pred, target)
    smooth = jnp.asarray(smooth, both.dtype)
    return _ratio(2 * both + smooth, either + smooth)


def iou_score(pred: ArrayLike, target: ArrayLike, *, smooth: float = 0.0) -> jax.Array:
    r"""IoU of masks, one value per image and class.

    .. math:: \frac{|A \cap B| + g}{|A \cup B| + g}

    Shapes: pred [B, C, ...], target [B, C, ...] -> [B, C]

    Two empty masks agree: 1. The case is ours to decide with ``smooth=0``.

    Source: arXiv:2510.15362.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import iou_score
    >>> iou_score(jnp.array([[[1, 1, 0]]]), jnp.array([[[1, 0, 0]]]))
    Array([[0.5]], dtype=float32)
    """
    both, _, union = _overlap(pred, target)
    smooth = jnp.asarray(smooth, both.dtype)
    return _ratio(both + smooth, union + smooth)


def _masks(p, metric, smooth, pruning_prob, solver):
    volume = rank_volume(p, metric=metric, smooth=smooth, solver=solver)
    # A pixel is taken if its rank is among the first t.
    rank = jnp.argsort(jnp.argsort(-p, -1), -1)
    pruned = p.max(-1, keepdims=True) <= pruning_prob
    return (rank < volume[..., None]) & ~pruned


def _blind_dice(p, top, smooth, tail):
    """Expected Dice of the top t, by the refined normal law of the positives."""
    size = p.shape[-1]
    mu = p.sum(-1, keepdims=True)
    spread = p * (1 - p)
    sd = jnp.maximum(jnp.sqrt(spread.sum(-1, keepdims=True)), 1e-6)
    skew = (spread * (1 - 2 * p)).sum(-1, keepdims=True) / sd**3
    k = jax.lax.broadcasted_iota(p.dtype, (*p.shape[:-1], size + 2), p.ndim - 1) - 1
    x = (k + 0.5 - mu) / sd
    cdf = jnp.clip(norm.cdf(x) + skew * (1 - x * x) * norm.pdf(x) / 6, 0, 1)
    pmf = jnp.maximum(jnp.diff(cdf, axis=-1), 0)
    pmf = jnp.where((cdf[..., 1:] > tail) & (cdf[..., :-1] < 1 - tail), pmf, 0)
    pmf = pmf / pmf.sum(-1, keepdims=True)
    k = k[..., 1:]

    def expect(t):
        dice = (pmf / (k + t + 1 + smooth)).sum(-1)
        rest = smooth * (pmf / (k + t + smooth)).sum(-1)
        return dice, rest

    dice, rest = jax.lax.map(expect, jnp.arange(1, size + 1, dtype=p.dtype))
    return 2 * top * jnp.moveaxis(dice, 0, -1) + jnp.moveaxis(rest, 0, -1)


def _overlap(pred, target):
    a, b = jnp.asarray(pred) != 0, jnp.asarray(target) != 0
    if a.shape != b.shape or a.ndim < 3:
        raise ValueError(
            f"pred, target have shapes {a.shape}, {b.shape}, expected [B, C, ...]"
        )
    axes = tuple(range(2, a.ndim))
    count = lambda m: m.sum(axes).astype(jnp.float32)  # noqa: E731 - integers do not stall
    return count(a & b), count(a) + count(b), count(a | b)


def _ratio(above, below):
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 1)


def _pixels(probs):
    p = numerics.promote_to_float32(probs, "probs")
    if p.ndim < 3 or 0 in p.shape:
        raise ValueError(f"probs has shape {p.shape}, expected [B, C, ...] with pixels")
    return p.reshape(*p.shape[:2], -1)


def _check_metric(metric, smooth):
    if metric not in ("dice", "iou"):
        raise ValueError(f"metric is {metric!r}, expected 'dice' or 'iou'")
    check_range("smooth", smooth, lambda s: s >= 0, "a number from 0 on")
