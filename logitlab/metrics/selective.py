"""What a score is worth: for telling known from unknown, and right from wrong.

Higher scores are surer, as those of ``metrics.ood_scores`` are. All but
``risk_at_thresholds`` compare every score with every other: gather the scores of all
batches and devices first.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics._quantiles import kept_quantile
from logitlab.numerics.arguments import check_same_shape, hyper

__all__ = [
    "RiskCoverage",
    "aupr",
    "aurc",
    "auroc",
    "excess_aurc",
    "fpr_at_tpr",
    "risk_at_thresholds",
    "risk_coverage",
]


class RiskCoverage(NamedTuple):
    """The risk of accepting only the surest examples.

    Attributes:
      coverage: share of the examples that is accepted, [N].
      risk: mean error among these, [N].
    """

    coverage: jax.Array
    risk: jax.Array


def auroc(
    inside: ArrayLike,
    outside: ArrayLike,
    *,
    inside_mask: ArrayLike | None = None,
    outside_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Probability that a known example scores above an unknown one; ties count half.

    .. math:: \frac{1}{N M} \sum_{ij} [s_i > t_j] + \tfrac12 [s_i = t_j]

    It does not depend on how many examples are unknown, nor on the scale of the scores.
    Also for right (``inside``) against wrong predictions.

    Shapes: inside [...], outside [...] -> []

    Args:
      inside: scores of examples that the model should know, of any shape.
      outside: scores of those that it should not know, of any other shape.
      inside_mask: bool, which of them count.
      outside_mask: bool, which of them count.

    Returns:
      Between 0 and 1, float32 (float64 for float64 scores); NaN if a score is, and 1/2
      where there is nothing to compare.

    Raises:
      TypeError: the scores are not floating point, or a mask is not bool.
      ValueError: a mask has another shape than its scores.

    Numerics: counts are integers; of a score that keeps its order in float32, such as
      ``log_odds_score``, it equals float64's to 1e-4 at mean margins of 45.

    Source: Mann and Whitney 1947, "On a test of whether one of two random variables is
      stochastically larger than the other".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import auroc
    >>> auroc(jnp.float32([1, 2, 3]), jnp.float32([0, 2]))
    Array(0.75, dtype=float32)
    """
    return _auroc(*_scores(inside, outside, inside_mask, outside_mask))


def aupr(
    inside: ArrayLike,
    outside: ArrayLike,
    *,
    inside_mask: ArrayLike | None = None,
    outside_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Area under the precision-recall curve of finding the known: average precision.

    .. math:: \frac1N \sum_i \frac{\#\{s \ge s_i\}}{\#\{s \ge s_i\} + \#\{t \ge s_i\}}

    Unlike ``auroc`` it depends on the shares of known and unknown. For the area with
    the unknown as what is to be found, swap the two and negate them:
    ``aupr(-outside, -inside)``.

    Shapes: inside [...], outside [...] -> []

    Args and errors are those of ``auroc``; 0 without known examples.

    Source: Davis and Goadrich 2006, "The relationship between precision-recall and ROC
      curves"; steps, not trapezoids.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import aupr
    >>> aupr(jnp.float32([1, 2, 3]), jnp.float32([0, 2])).round(4)
    Array(0.8056, dtype=float32)
    """
    return _aupr(*_scores(inside, outside, inside_mask, outside_mask))


def fpr_at_tpr(
    inside: ArrayLike,
    outside: ArrayLike,
    *,
    tpr: ArrayLike = 0.95,
    inside_mask: ArrayLike | None = None,
    outside_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Share of unknown examples that pass where 95 % of the known ones do (FPR95).

    .. math:: \frac1M \#\{t_j \ge Q_{1 - \mathrm{tpr}}(s)\}

    The known examples are the positive ones, and the quantile is interpolated linearly;
    others have it the other way round.

    Shapes: inside [...], outside [...] -> []

    Args:
      inside: scores of examples that the model should know.
      outside: scores of those that it should not know.
      tpr: the share of known examples that pass, in [0, 1].
      inside_mask: bool, which of them count.
      outside_mask: bool, which of them count.

    Returns:
      Between 0 and 1; NaN if a score is, 0 where either is empty.

    Raises:
      TypeError: the scores are not floating point, or a mask is not bool.
      ValueError: a mask has another shape than its scores, or ``tpr`` is outside
        [0, 1].

    Source: ODIN, Liang et al. 2018, arXiv:1706.02690.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import fpr_at_tpr
    >>> fpr_at_tpr(jnp.arange(20.0), jnp.float32([0, 0.5, 1, 7]))
    Array(0.5, dtype=float32)
    """
    s, t, keep, other = _scores(inside, outside, inside_mask, outside_mask)
    tpr = hyper("tpr", tpr, s.dtype, lambda r: (r >= 0) & (r <= 1), "in [0, 1]")
    passed = (t >= kept_quantile(s, keep, 1 - tpr)) & keep.any()
    rate = numerics.masked_mean(passed.astype(s.dtype), other)
    return jnp.where(_any_nan(s, t, keep, other), jnp.nan, rate)


def risk_coverage(
    scores: ArrayLike, errors: ArrayLike, *, mask: ArrayLike | None = None
) -> RiskCoverage:
    r"""Mean error of the k surest examples, for every k.

    .. math:: r_k = \frac1k \sum_{i \le k} e_{(i)}, \quad s_{(1)} \ge s_{(2)} \ge \dots

    Shows what abstaining buys: a model that answers only where its score is high. Among
    equal scores each order is as likely as any other, and the mean over these is taken.

    Shapes: scores [N], errors [N], mask [N] -> ([N], [N])

    Args:
      scores: higher is surer.
      errors: bool, or losses as floats.
      mask: bool, the examples that count. The others repeat the last point.

    Returns:
      A ``RiskCoverage``, in the scores' dtype; NaN if a score is.

    Raises:
      TypeError: ``scores`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, or there is more than one axis.

    Source: El-Yaniv and Wiener 2010, "On the foundations of noise-free selective
      classification"; Geifman and El-Yaniv 2017, arXiv:1705.08500.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import risk_coverage
    >>> risk_coverage(jnp.float32([3, 2, 1]), jnp.array([False, True, False])).risk
    Array([0.        , 0.5       , 0.33333334], dtype=float32)
    """
    s, e, keep = _with_errors(scores, errors, mask)
    if s.ndim != 1:
        raise ValueError(f"scores has shape {s.shape}, expected one axis")
    return _risk_coverage(s, e, keep)


def aurc(
    scores: ArrayLike, errors: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Area under the risk-coverage curve: the mean of its points.

    .. math:: \frac1N \sum_k r_k

    The error rate if the score says nothing. It depends on the error rate itself:
    ``excess_aurc`` compares models of different accuracy.

    Shapes: scores [N], errors [N], mask [N] -> []

    Args and errors are those of ``risk_coverage``; 0 without examples.

    Source: Geifman et al. 2019, arXiv:1805.08206.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import aurc
    >>> aurc(jnp.zeros(4), jnp.array([True, False, False, False]))
    Array(0.25, dtype=float32)
    """
    keep = numerics.check_mask(mask, jnp.shape(scores))
    surest = jnp.arange(keep.size) < jnp.sum(keep)
    return numerics.masked_mean(risk_coverage(scores, errors, mask=mask).risk, surest)


def excess_aurc(
    scores: ArrayLike, errors: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Area under the risk-coverage curve above that of the best score (E-AURC).

    .. math:: \mathrm{AURC}(s) - \mathrm{AURC}(-e)

    Shapes: scores [N], errors [N], mask [N] -> []

    Args and errors are those of ``risk_coverage``.

    Source: Geifman et al. 2019, arXiv:1805.08206.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import excess_aurc
    >>> excess_aurc(jnp.float32([1, 2, 3]), jnp.array([True, False, False]))
    Array(0., dtype=float32)
    """
    s, e, _ = _with_errors(scores, errors, mask)
    return aurc(s, e, mask=mask) - aurc(-e.astype(s.dtype), e, mask=mask)


def risk_at_thresholds(
    scores: ArrayLike,
    errors: ArrayLike,
    thresholds: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean error of the examples that score at least a threshold, for each of a grid.

    .. math:: \frac{\sum_i e_i [s_i \ge t]}{\#\{i : s_i \ge t\}}

    The risk-coverage curve over batches and devices: the means add up, and their counts
    over the number of all examples are the coverages.

    Shapes: scores [...], errors [...], thresholds [T], mask [...] -> ([T], [T])

    Args:
      scores: higher is surer.
      errors: bool, or losses as floats.
      thresholds: the grid.
      mask: bool, the examples that count.

    Raises:
      TypeError: ``scores`` or ``thresholds`` is not floating point, or ``mask`` is not
        bool.
      ValueError: the shapes differ.

    Source: Geifman and El-Yaniv 2017, arXiv:1705.08500.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import risk_at_thresholds
    >>> e = jnp.array([False, True, False])
    >>> risk_at_thresholds(jnp.float32([3, 2, 1]), e, jnp.float32([2, 0])).value
    Array([0.5       , 0.33333334], dtype=float32)
    """
    s, e, keep = _with_errors(scores, errors, mask)
    t = numerics.promote_to_float32(thresholds, "thresholds").reshape(-1, 1)
    s, e, keep = (a.reshape(1, -1) for a in (s, e, keep))
    accepted = (s >= t) & keep
    total = jnp.sum(jnp.where(accepted, e, 0), -1, dtype=e.dtype)
    return Mean(total, jnp.sum(accepted, -1, dtype=jnp.int32))


@jax.jit
def _risk_coverage(s, e, keep):
    n = jnp.sum(keep, dtype=jnp.int32)
    gone, s, e = jax.lax.sort((~keep, -s, jnp.where(keep, e, 0)), num_keys=2)
    first, last = _ties(gone, s)
    total = jnp.cumsum(e)
    before = (total - e)[first].astype(s.dtype)
    k = jnp.arange(1, s.size + 1, dtype=jnp.int32)
    part = (k - first).astype(s.dtype) / (last - first + 1).astype(s.dtype)
    rise = part * (total[last].astype(s.dtype) - before)
    # The sum at the end is the last point, also of those that are left out.
    within = k <= n
    sums = jnp.where(within, before + rise, jnp.sum(e).astype(s.dtype))
    count = jnp.maximum(jnp.minimum(k, n), 1).astype(s.dtype)
    bad = jnp.any(jnp.isnan(s) & ~gone)
    coverage = count / jnp.maximum(n, 1).astype(s.dtype)
    return RiskCoverage(coverage, jnp.where(bad, jnp.nan, sums / count))


@jax.jit
def _auroc(s, t, keep, other):
    known, unknown = _sorted_keys(s, keep), _sorted_keys(t, other)
    n, m = (jnp.sum(a, dtype=jnp.int32) for a in (keep, other))
    below, up_to = (
        jnp.searchsorted(known, unknown, side=side) for side in ("left", "right")
    )
    rates = (2 * n - below - up_to).astype(s.dtype) / (2 * jnp.maximum(n, 1))
    area = numerics.masked_mean(rates, jnp.arange(t.size) < m)
    area = jnp.where((n > 0) & (m > 0), area, 0.5)
    return jnp.where(_any_nan(s, t, keep, other), jnp.nan, area)


@jax.jit
def _aupr(s, t, keep, other):
    known, unknown = _sorted_keys(s, keep), _sorted_keys(t, other)
    n, m = (jnp.sum(a, dtype=jnp.int32) for a in (keep, other))
    hits, passed = (
        (count - jnp.searchsorted(keys, known)).astype(s.dtype)
        for count, keys in ((n, known), (m, unknown))
    )
    precision = hits / jnp.maximum(hits + passed, 1)
    area = numerics.masked_mean(precision, jnp.arange(s.size) < n)
    return jnp.where(_any_nan(s, t, keep, other), jnp.nan, area)


def _sorted_keys(scores, keep):
    """Integers in the order of the kept scores, and the largest for all others.

    On CPUs an array of integers is sorted several times as fast as one of floats.
    """
    scores = jnp.where(scores == 0, 0, scores)  # of two signs
    dtype = jnp.dtype(f"int{8 * scores.dtype.itemsize}")
    keys, most = jax.lax.bitcast_convert_type(scores, dtype), jnp.iinfo(dtype).max
    return jnp.sort(jnp.where(keep, jnp.where(keys < 0, keys ^ most, keys), most))


def _any_nan(s, t, keep, other):
    return jnp.any(jnp.isnan(s) & keep) | jnp.any(jnp.isnan(t) & other)


def _scores(inside, outside, inside_mask, outside_mask):
    """Flat scores of one dtype, and which of them count."""
    s = numerics.promote_to_float32(inside, "inside")
    t = numerics.promote_to_float32(outside, "outside")
    keep = numerics.check_mask(inside_mask, s.shape, "inside_mask").ravel()
    other = numerics.check_mask(outside_mask, t.shape, "outside_mask").ravel()
    dtype = jnp.promote_types(s.dtype, t.dtype)
    return s.ravel().astype(dtype), t.ravel().astype(dtype), keep, other


def _with_errors(scores, errors, mask):
    """Scores; errors as integers if they are bool, else in the scores' dtype; mask."""
    s = numerics.promote_to_float32(scores, "scores")
    check_same_shape("errors", errors, "scores", s.shape)
    e = jnp.asarray(errors)
    e = e.astype(jnp.int32 if e.dtype == bool else s.dtype)
    return s, e, numerics.check_mask(mask, s.shape)


def _ties(*keys):
    """Indices of the first and of the last entry that equals each, in sorted rows."""
    at = jnp.arange(keys[0].size, dtype=jnp.int32)
    new = functools.reduce(jnp.logical_or, [a[1:] != a[:-1] for a in keys])
    edge = jnp.ones(1, bool)
    first = jnp.where(jnp.concatenate([edge, new]), at, 0)
    last = jnp.where(jnp.concatenate([new, edge]), at, keys[0].size)
    return jax.lax.cummax(first), jax.lax.cummin(last, reverse=True)
