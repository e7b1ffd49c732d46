"""The accuracy of a model on examples without labels, estimated.

All take what the model says of the unlabeled examples, some also what it says of
labeled ones from another source. A temperature fitted there (``transforms.
fit_temperature``) makes all of them better. ``metrics.estimation`` has scores that only
rank.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.confidence_bins import CalibrationBins, calibration_bins
from logitlab.metrics.mean import Mean, mean_of
from logitlab.metrics.ood_scores import msp_score
from logitlab.numerics.arguments import (
    check_same_shape,
    counts_per_class,
    kept_examples,
    kept_logits,
)

__all__ = [
    "agreement_score",
    "atc_accuracy",
    "average_confidence",
    "cot_error",
    "difference_of_confidences",
    "fit_atc",
    "fit_confidence_gap",
    "importance_reweighting",
]


def average_confidence(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean probability of the top class: the accuracy of a calibrated model.

    The first estimate to look at. Overconfident models, as most are on data unlike
    those that they were trained on, are less accurate than this.

    .. math:: \frac1N \sum_i \max_c p_{ic}

    Shapes: logits [..., C], where [..., C], mask [...] -> ([], [])

    Args:
      logits: of the unlabeled examples.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      A ``Mean``, which adds up over batches.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: Hendrycks and Gimpel 2017, arXiv:1610.02136.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import average_confidence
    >>> print(f"{float(average_confidence(jnp.float32([[0, 0], [40, 0]]))):.4f}")
    0.7500
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    return mean_of(jnp.exp(msp_score(z)), keep)


def fit_confidence_gap(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""How much more accurate a model is than it is confident, on labeled examples.

    For ``difference_of_confidences``. Negative for an overconfident model.

    .. math:: \frac1N \sum_i [\hat y_i = y_i] - \max_c p_{ic}

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> ([], [])

    Args:
      logits: of the labeled examples.
      labels: ints in ``[0, C)``; a negative one is never right.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Returns:
      A ``Mean``, which adds up over batches.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is C or more (never right under
        ``jit``).

    Numerics: of a right example 1 - p is known to a relative error of 1e-5 for margins
      up to 80.

    Source: Guillory et al. 2021, arXiv:2107.03315.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import fit_confidence_gap
    >>> z = jnp.float32([[40, 0], [40, 0]])
    >>> fit_confidence_gap(z, jnp.array([0, 1])).value
    Array(-0.5, dtype=float32)
    """
    z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    log_p = msp_score(z)
    right = jnp.argmax(z, -1) == y
    return mean_of(jnp.where(right, -jnp.expm1(log_p), -jnp.exp(log_p)), keep)


def difference_of_confidences(
    logits: ArrayLike,
    gap: Mean,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean confidence plus the gap to the accuracy that labeled examples show (DoC).

    The accuracy is assumed to fall as the confidence does.

    .. math:: \mathrm{acc}_s - (\mathrm{conf}_s - \mathrm{conf}_t)

    Args:
      logits: of the unlabeled examples, [..., C].
      gap: of ``fit_confidence_gap``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      A ``Mean``, which adds up over batches; it may leave [0, 1].

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: Guillory et al. 2021, arXiv:2107.03315.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import difference_of_confidences, fit_confidence_gap
    >>> gap = fit_confidence_gap(jnp.float32([[40, 0], [40, 0]]), jnp.array([0, 1]))
    >>> print(f"{float(difference_of_confidences(jnp.float32([[2, 0]]), gap)):.4f}")
    0.3808
    """
    total, count = average_confidence(logits, axis=axis, where=where, mask=mask)
    return Mean(total + gap.value * count, count)


def fit_atc(
    scores: ArrayLike, errors: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""The score below which as many labeled examples lie as are wrong.

    For ``atc_accuracy``. The paper's scores are the confidence, of which
    ``log_odds_score`` keeps the order that a float32 probability loses, and
    ``neg_entropy_score``; any other score of sureness will do. Needs all scores at
    once.

    .. math:: t = s_{(k)}, \quad k = \#\{\text{errors}\}

    the k-th smallest score.

    Shapes: scores [...], errors [...], mask [...] -> []

    Args:
      scores: of labeled examples, higher is surer.
      errors: bool, whether the prediction is wrong.
      mask: bool, the examples that count.

    Returns:
      The threshold, in the unit of the scores; ``-inf`` without errors, where the
      original code returns 0.

    Raises:
      TypeError: ``scores`` is not floating point, ``errors`` or ``mask`` not bool.
      ValueError: the shapes differ.

    Source: ATC, Garg et al. 2022, arXiv:2201.04234.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import fit_atc
    >>> fit_atc(jnp.float32([3, 1, 2]), jnp.array([False, True, True]))
    Array(2., dtype=float32)
    """
    s = numerics.promote_to_float32(scores, "scores")
    keep = numerics.check_mask(mask, s.shape)
    wrong = numerics.check_mask(errors, s.shape, "errors") & keep
    s = jnp.sort(jnp.where(keep, s, jnp.inf), axis=None)
    s = jnp.concatenate([jnp.full(1, -jnp.inf, s.dtype), s])
    return s[jnp.sum(wrong, dtype=jnp.int32)]


def atc_accuracy(
    scores: ArrayLike, threshold: ArrayLike, *, mask: ArrayLike | None = None
) -> Mean:
    r"""Accuracy by average thresholded confidence: the share that passes a threshold.

    .. math:: \frac1N \#\{i : s_i \ge t\}

    Shapes: scores [...], threshold [], mask [...] -> ([], [])

    Args:
      scores: of the unlabeled examples, by the same function as those of the fit.
      threshold: of ``fit_atc``.
      mask: bool, the examples that count.

    Returns:
      A ``Mean``, which adds up over batches. A score of NaN counts as wrong.

    Raises:
      TypeError: ``scores`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ.

    Source: ATC, Garg et al. 2022, arXiv:2201.04234.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import atc_accuracy
    >>> atc_accuracy(jnp.float32([3, 1, 2]), 2.0)
    Mean(sum=Array(2, dtype=int32), count=Array(3, dtype=int32))
    """
    s = numerics.promote_to_float32(scores, "scores")
    return mean_of(s >= jnp.asarray(threshold, s.dtype), mask)


def importance_reweighting(
    logits: ArrayLike,
    source: CalibrationBins,
    *,
    closed: Literal["left", "right"] = "right",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Accuracy of labeled examples, reweighted to the confidences of unlabeled ones.

    A model is assumed to be as accurate at a confidence as it is on the labeled
    examples. Their weights, normalized to a mean of 1, are the ratio of densities of
    the confidence; so each unlabeled example counts with the accuracy of its bin.

    .. math:: \frac{\sum_b n^t_b \, h_b / n_b}{\sum_{b : n_b > 0} n^t_b}

    with :math:`h_b` of the :math:`n_b` labeled examples in bin b right, and
    :math:`n^t_b` unlabeled ones in it. Bins without labeled examples are left out.

    Args:
      logits: of the unlabeled examples, [..., C].
      source: ``calibration_bins`` of the labeled examples; the paper has ten.
      closed: which end of a bin belongs to it, as in ``source``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      A ``Mean`` over the examples in bins that the source knows; adds up over batches.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree, or ``source`` has bins for each class.

    Source: Mandoline, Chen et al. 2021, arXiv:2107.00643.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import calibration_bins, importance_reweighting
    >>> z, y = jnp.float32([[9, 0], [9, 0], [1, 0]]), jnp.array([0, 0, 1])
    >>> source = calibration_bins(z, y, bins=10)
    >>> print(f"{float(importance_reweighting(z[1:], source)):.4f}")
    0.5000
    """
    counts, hits = jnp.asarray(source.counts), jnp.asarray(source.hits)
    if counts.ndim != 1:
        raise ValueError(
            f"source has bins of shape {counts.shape}, expected one row of bins"
        )
    shape = list(jnp.shape(logits))
    del shape[axis]
    target = calibration_bins(
        logits,
        jnp.zeros(shape, jnp.int32),  # of which only the hits would depend
        bins=counts.size,
        closed=closed,
        axis=axis,
        where=where,
        mask=mask,
    )
    bad = (source.invalid > 0) | (target.invalid > 0)
    seen = jnp.where(counts > 0, target.counts, 0)
    right = hits.astype(jnp.result_type(float)) / jnp.maximum(counts, 1)
    total = jnp.sum(seen * right)
    return Mean(jnp.where(bad, jnp.nan, total), jnp.sum(seen, dtype=jnp.int32))


def agreement_score(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of examples that two models, trained independently, take for one class.

    One minus it estimates the error of either (generalization disagreement equality),
    where their ensemble is calibrated.

    .. math:: \frac1N \#\{i : \arg\max z_i = \arg\max z'_i\}

    Shapes: logits [..., C], other_logits [..., C], where [..., C], mask [...]
      -> ([], [])

    Args:
      logits: of one model.
      other_logits: of another one that differs in its seed alone, for the same
        examples.
      axis: the class axis of both.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      A ``Mean``, which adds up over batches. A row with a NaN agrees with none.

    Raises:
      TypeError: the logits are not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: GDE, Jiang et al. 2022, arXiv:2106.13799.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import agreement_score
    >>> z, other = jnp.float32([[1, 0], [0, 1]]), jnp.float32([[2, 0], [3, 0]])
    >>> float(agreement_score(z, other))
    0.5
    """
    check_same_shape("other_logits", other_logits, "logits", jnp.shape(logits))
    z, z2 = (
        numerics.prepare_logits(a, axis=axis, where=where, name=name)
        for a, name in ((logits, "logits"), (other_logits, "other_logits"))
    )
    bad = jnp.isnan(z).any(-1) | jnp.isnan(z2).any(-1)
    return mean_of((z.argmax(-1) == z2.argmax(-1)) & ~bad, mask)


def cot_error(
    logits: ArrayLike,
    label_counts: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Error rate by optimal transport of predictions to the known shares of classes.

    Where labels are as frequent as in another set, a model that predicts one of them
    too often must be wrong, however confident it is. Needs all logits at once.

    .. math:: 1 - \frac1N \max_\sigma \sum_i p_{i \sigma(i)}
        = \frac12 \min_\pi \sum_{ij} \pi_{ij} \|e_{y_i} - p_j\|_1

    over assignments of classes to examples that use each class as often as it is due:
    N times its share, rounded by largest remainders.

    Shapes: logits [..., C], label_counts [C], where [..., C], mask [...] -> []

    Args:
      logits: of the unlabeled examples.
      label_counts: how often each class occurs, in labeled examples or by assumption.
        Counts that add up to N are kept as they are.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      The error rate, float32 (float64 for float64 logits); 0 without examples, and NaN
      if a logit is,
      or all counts are 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree, or a count is negative.

    Numerics: the assignment is best for probabilities rounded to 2^-24, for more than
      64 classes to C 2^-30 (float64: 2^-40); the error rate is then exact. It takes
      time in proportion to N C for each example whose class is not the predicted one:
      of more than some ten thousand take the mean over random parts, as the original
      code does.

    Source: COT, Lu et al. 2023, arXiv:2305.15640.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import cot_error
    >>> z = jnp.log(jnp.float32([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]))
    >>> print(f"{cot_error(z, jnp.array([2, 1])):.4f}")  # 1 - (0.9 + 0.8 + 0.4) / 3
    0.3000
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    counts = counts_per_class(label_counts, z.shape[-1], "label_counts")
    if not keep.size:
        return jnp.zeros((), z.dtype)
    return _cot_error(z.reshape(-1, z.shape[-1]), keep.ravel(), counts.astype(z.dtype))


@jax.jit
def _cot_error(z, keep, counts):
    classes = z.shape[-1]
    errors = -jnp.expm1(numerics.log_softmax(z))
    bits, integer = (40, jnp.int64) if z.dtype == jnp.float64 else (24, jnp.int32)
    scale = min(2**bits, 2 ** (bits + 6) // classes)  # sums along paths are in range
    n, total = jnp.sum(keep, dtype=jnp.int32), jnp.sum(counts)
    costs = jnp.where(jnp.isfinite(errors), jax.lax.stop_gradient(errors) * scale, 0)
    quotas = _quotas(counts * (n.astype(z.dtype) / jnp.where(total > 0, total, 1)), n)
    given = _assigned(jnp.round(costs).astype(integer), keep, quotas)
    error = jnp.take_along_axis(errors, given[:, None], -1, mode="clip")[:, 0]
    error = jnp.where(total > 0, error, jnp.nan)
    return numerics.masked_mean(error, keep)


def _quotas(shares, n):
    """Integers near the shares that add up to ``n``, by largest remainders."""
    low = jnp.floor(shares).astype(jnp.int32)
    order = jnp.argsort(jnp.argsort(jnp.floor(shares) - shares, stable=True))
    return low + (order < n - jnp.sum(low)).astype(jnp.int32)


def _assigned(costs, keep, quotas):
    """A class for each row, each as often as its quota says, at the least total cost.

    Rows begin at their cheapest class. While a class has too many of them, one row for
    each step of the cheapest path to a class with too few moves along it, after which
    no cheaper assignment has the same counts. Costs are integers, so that rounding
    makes no cycle of a cost below 0.
    """
    rows, classes = costs.shape
    far = jnp.array(jnp.iinfo(costs.dtype).max // 2, costs.dtype)
    given = jnp.argmin(costs, -1).astype(jnp.int32)
    given = jnp.where(keep, given, classes)  # beyond the last: none

    def surplus(given):
        return jnp.zeros(classes, jnp.int32).at[given].add(1, mode="drop") - quotas

    def unfinished(given):
        return (surplus(given) > 0).any() & (surplus(given) < 0).any()

    def move(given):
        # The least cost of a row's going from one class to another, and the row.
        here = jnp.take_along_axis(costs, given[:, None], -1, mode="clip")
        table, extra = jnp.full((classes, classes), far), costs - here
        price = table.at[given].min(extra, mode="drop")
        is_least = extra == price.at[given].get(mode="clip")
        row = jnp.where(is_least, jnp.arange(rows, dtype=jnp.int32)[:, None], rows)
        table = jnp.full((classes, classes), rows, jnp.int32)
        row = table.at[given].min(row, mode="drop")

        def relax(carry):
            cost, before, _ = carry
            open_ = (cost < far)[:, None] & (price < far)
            through = jnp.where(open_, cost[:, None] + price, far)
            better = jnp.min(through, 0) < cost
            last = jnp.argmin(through, 0).astype(jnp.int32)
            cost = jnp.where(better, jnp.min(through, 0), cost)
            return cost, jnp.where(better, last, before), better.any()

        start = jnp.where(surplus(given) > 0, jnp.zeros_like(far), far)
        none = jnp.full(classes, -1, jnp.int32)
        cost, before, _ = jax.lax.while_loop(
            lambda carry: carry[2], relax, (start, none, jnp.array(True))
        )

        def back(carry):
            given, at = carry
            return given.at[row[before[at], at]].set(at), before[at]

        end = jnp.argmin(jnp.where(surplus(given) < 0, cost, far)).astype(jnp.int32)
        return jax.lax.while_loop(
            lambda carry: before[carry[1]] >= 0, back, (given, end)
        )[0]

    return jax.lax.while_loop(unfinished, move, given)
