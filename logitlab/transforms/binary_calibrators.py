"""Calibrators of binary scores."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._isotonic import pool_violators
from logitlab.numerics._quantiles import kept_quantile
from logitlab.numerics.arguments import binary, check_count
from logitlab.transforms._likelihood import minimize

__all__ = [
    "HistogramCalibrator",
    "IsotonicCalibrator",
    "PlattCalibrator",
    "fit_histogram_binning",
    "fit_isotonic",
    "fit_platt",
]


class PlattCalibrator(NamedTuple):
    """A logistic function of a binary score, ``1 / (1 + exp(a s + b))``.

    Attributes:
      a: [], below 0 for a useful score.
      b: [].
      at_bound: as in ``VectorCalibrator``.
      slope: as in ``VectorCalibrator``.
    """

    a: jax.Array
    b: jax.Array
    at_bound: jax.Array
    slope: jax.Array


class IsotonicCalibrator(NamedTuple):
    """A rising function of a binary score, linear between the points of the fit.

    Attributes:
      scores: sorted, [N].
      probs: probabilities at these, [N].
    """

    scores: jax.Array
    probs: jax.Array


class HistogramCalibrator(NamedTuple):
    """One probability for each bin of a binary score.

    Attributes:
      edges: the lowest scores of all bins but the first, [bins - 1].
      probs: [bins].
    """

    edges: jax.Array
    probs: jax.Array


def fit_platt(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> PlattCalibrator:
    r"""A logistic function of a binary score, by maximum likelihood.

    .. math:: p = \frac{1}{1 + e^{a s + b}}, \quad \text{fitted to }
        \frac{n_+ + 1}{n_+ + 2} \text{ and } \frac{1}{n_- + 2}

    instead of labels 1 and 0, so that separable scores have a finite fit.

    Shapes: logits [...], labels [...], mask [...] -> ([], [], [], [])

    Args:
      logits: binary scores s of held-out examples, of any scale.
      labels: ints, 0 or 1; a negative one makes the fit NaN.
      mask: bool, the examples that count; labels of the others may be any ints.

    Returns:
      A ``PlattCalibrator``; without examples, the sigmoid itself (a = -1, b = 0).

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree, or a label is above 1 (NaN under ``jit``).

    Source: Platt 1999, "Probabilistic outputs for support vector machines".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import calibrate, fit_platt
    >>> s, y = jnp.float32([-1, -1, 1, 1]), jnp.array([0, 0, 1, 1])
    >>> p = jax.nn.sigmoid(calibrate(s, fit_platt(s, y)))
    >>> print(*(f"{v:.3f}" for v in p))  # (2 + 1) / (2 + 2), and the rest
    0.250 0.250 0.750 0.750
    """
    return _fit_platt(*_binary_examples(logits, labels, mask))


def fit_isotonic(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> IsotonicCalibrator:
    r"""The rising function of a binary score that is nearest to the labels.

    For many examples, and any shape of miscalibration. Equal scores are averaged first;
    between scores the function is linear, and outside of them constant.

    .. math:: \min_{m \text{ rising}} \sum_i (m(s_i) - y_i)^2

    Shapes: logits [...], labels [...], mask [...] -> ([N], [N]), N all examples

    Args and errors are those of ``fit_platt``.

    Returns:
      An ``IsotonicCalibrator``; one half without examples, at one point if N is 0.

    Source: Zadrozny and Elkan 2002, "Transforming classifier scores into accurate
      multiclass probability estimates".

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import fit_isotonic
    >>> fit_isotonic(jnp.float32([3, 1, 2]), jnp.array([1, 1, 0])).probs
    Array([0.5, 0.5, 1. ], dtype=float32)
    """
    s, y, keep = _binary_examples(logits, labels, mask)
    if not s.size:
        return IsotonicCalibrator(jnp.zeros(1, s.dtype), jnp.full(1, 0.5, s.dtype))
    return _fit_isotonic(s, y, keep)


def fit_histogram_binning(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    mask: ArrayLike | None = None,
) -> HistogramCalibrator:
    r"""The share of positive labels in each bin of a binary score.

    The simplest that can be checked: within a bin every example has the same
    probability. For classes, fit one against the rest with ``jax.vmap`` over the class
    axis of logits and one-hot labels.

    .. math:: \hat p_b = \frac{1}{n_b} \sum_{i \in b} y_i

    Bins are closed on the left; an empty one keeps the middle of its range.

    Shapes: logits [...], labels [...], mask [...] -> ([bins - 1], [bins])

    Args:
      logits: binary scores of held-out examples, whose sigmoid is their probability.
      labels: ints, 0 or 1; a negative one makes the fit NaN.
      bins: how many.
      binning: of equal width in the probability, or of equal numbers of examples, with
        linear quantiles of the scores as edges.
      mask: bool, the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree, ``bins`` is below 1, ``binning`` is unknown, or a
        label is above 1 (NaN under ``jit``).

    Source: Zadrozny and Elkan 2001, "Obtaining calibrated probability estimates from
      decision trees and naive Bayesian classifiers".

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import fit_histogram_binning
    >>> s, y = jnp.float32([-1, -2, 1, 2]), jnp.array([0, 1, 1, 1])
    >>> fit_histogram_binning(s, y, bins=2).probs
    Array([0.5, 1. ], dtype=float32)
    """
    check_count("bins", bins)
    if binning not in ("width", "mass"):
        raise ValueError(f"binning is {binning!r}, expected 'width' or 'mass'")
    s, y, keep = _binary_examples(logits, labels, mask)
    steps = jnp.arange(1, bins, dtype=jnp.int32)
    if binning == "mass":
        edges = kept_quantile(s, keep, steps, bins)
    else:
        share = steps.astype(s.dtype)
        edges = jnp.log(share / (bins - share))
    at = jnp.where(keep, jnp.searchsorted(edges, s, side="right"), bins)
    count, hits = (
        jnp.zeros(bins, s.dtype).at[at].add(a, mode="drop")
        for a in (jnp.ones_like(y), y)
    )
    middle = (jnp.arange(bins, dtype=s.dtype) + 0.5) / bins
    return HistogramCalibrator(
        edges, jnp.where(count > 0, hits / jnp.maximum(count, 1), middle)
    )


def calibrate_binary(
    s: jax.Array,
    calibrator: PlattCalibrator | IsotonicCalibrator | HistogramCalibrator,
) -> jax.Array:
    """Log-odds of what a calibrator makes of binary scores."""
    if isinstance(calibrator, PlattCalibrator):
        a, b = (jnp.asarray(v, s.dtype) for v in calibrator[:2])
        return -(a * s + b)
    if isinstance(calibrator, IsotonicCalibrator):
        p = jnp.interp(s, *(jnp.asarray(v, s.dtype) for v in calibrator))
    else:
        edges, probs = (jnp.asarray(v, s.dtype) for v in calibrator)
        p = probs[jnp.searchsorted(edges, s, side="right")]
    return jnp.log(p) - jnp.log1p(-p)


def _binary_examples(logits, labels, mask):
    """Scores [N], labels as floats, NaN for none, and which examples count."""
    s = numerics.promote_to_float32(logits)
    keep = numerics.check_mask(mask, s.shape)
    y, bad = binary(labels, s.shape, s.dtype, keep, soft=False)
    y = jnp.where(bad, jnp.nan, y)
    return jnp.where(keep, s, 0).ravel(), y.ravel(), keep.ravel()


@jax.jit
def _fit_platt(s, y, keep):
    ones = jnp.sum(jnp.where(keep, y, 0))
    zeros = jnp.sum(keep).astype(s.dtype) - ones
    target = jnp.where(y > 0, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    # Standardized, as scores may have any scale and offset.
    center = numerics.masked_mean(s, keep)
    spread = jnp.sqrt(numerics.masked_mean((s - center) ** 2, keep))
    spread = jnp.where(spread > 0, spread, 1)
    x = (s - center) / spread

    def loss(parameters):
        a, b = parameters
        t = a * x + b
        losses = target * jax.nn.softplus(t) + (1 - target) * jax.nn.softplus(-t)
        return numerics.masked_mean(losses, keep)

    start = (-jnp.ones((), s.dtype), jnp.zeros((), s.dtype))
    a, b, at_bound, slope = minimize(loss, start, jnp.sum(keep))
    return PlattCalibrator(a / spread, b - a * center / spread, at_bound, slope)


@jax.jit
def _fit_isotonic(s, y, keep):
    gone, s, y = jax.lax.sort((~keep, s, y), num_keys=2)
    new = (s[1:] != s[:-1]) | (gone[1:] != gone[:-1])
    edge = jnp.zeros(1, jnp.int32)
    ties = jnp.cumsum(jnp.concatenate([edge, new.astype(jnp.int32)]))
    weights = (~gone).astype(s.dtype)
    probs, _ = pool_violators(jnp.where(gone, 0, y), weights, ties)
    last = jnp.max(jnp.where(gone, -jnp.inf, s))
    some = keep.any()
    scores = jnp.where(gone, jnp.where(some, last, 0), s)
    bad = jnp.any(jnp.isnan(y) & ~gone)
    probs = jnp.where(bad, jnp.nan, jnp.where(some, probs, 0.5))
    return IsotonicCalibrator(scores, probs)
