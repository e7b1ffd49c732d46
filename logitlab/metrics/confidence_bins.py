"""Examples counted in bins of their confidence, in integers that add up exactly."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._quantiles import kept_quantile
from logitlab.numerics.arguments import check_count, kept_examples

__all__ = ["CalibrationBins", "calibration_bins"]

_DIGITS, _BASE = 6, 64  # probabilities are summed as integers, to 64^-6 = 1.5e-11


class CalibrationBins(NamedTuple):
    """Counts for calibration errors, on their way: they add up, bit for bit.

    A pytree of integers, so ``psum``, ``scan`` and ``jax.tree.map(jnp.add, a, b)``
    merge it over batches and devices in any order with the same result. The confidences
    of a bin add up to ``likely`` plus what ``digits`` stand for.

    Attributes:
      counts: examples in each bin, [..., B], fewer than 2^25 in a bin.
      hits: those whose event happened, [..., B].
      likely: those whose event has a probability above one half, [..., B].
      digits: of the sum of what probabilities are above 0, or those above one half
        below 1, as six signed digits to the base 64, [..., B, 6].
      invalid: examples without a label, or with a NaN among their logits, []. Every
        number made of the bins is NaN if there is one.
    """

    counts: Any
    hits: Any
    likely: Any
    digits: Any
    invalid: Any

    def __add__(self, other):
        """Merges the counts of two sets of examples."""
        if not isinstance(other, CalibrationBins):
            return NotImplemented
        return CalibrationBins(*(a + b for a, b in zip(self, other, strict=True)))


def calibration_bins(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    closed: Literal["left", "right"] = "right",
    classwise: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> CalibrationBins:
    """Sorts examples by their confidence into bins of equal width.

    For calibration errors over more than one batch: add the bins up, and give the total
    to ``calibration_error``, ``reliability_bins`` or ``brier_decomposition``. The
    confidence is that of the top class (the first of equals), its event that the label
    is this class; ``classwise`` has a row of bins for each class instead, with the
    probability of the class and the event that the label is the class.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...]
      -> ([bins], [bins], [bins], [bins, 6], [])

    Args:
      logits: scores. Probabilities in their place would be taken for logits, and look
        far less confident than they are; their logarithm is right.
      labels: ints in ``[0, C)``; a negative one makes the results NaN.
      bins: B. Bin b reaches from b / B to (b + 1) / B.
      closed: which end of a bin belongs to it; the first bin also has 0, the last 1.
      classwise: bins for each class, so that every shape but the last begins with C.
      axis: the class axis.
      where: bool, the classes that take part. A row without classes is left out.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, ``bins`` is below 1, ``closed`` unknown, or a
        label is C or more (NaN under ``jit``).

    Numerics: sums of probabilities are exact to 1.5e-11 for each example, and a
      probability near 1 is known by its complement, which is exact at any margin.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import calibration_bins, calibration_error
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> total = calibration_bins(z[:2], y[:2]) + calibration_bins(z[2:], y[2:])
    >>> calibration_error(total).round(4)
    Array(0.2992, dtype=float32)
    """
    check_count("bins", bins)
    if closed not in ("left", "right"):
        raise ValueError(f"closed is {closed!r}, expected 'left' or 'right'")
    z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    return _counted(z, y, keep, bins, closed, classwise)


@functools.partial(jax.jit, static_argnames="bins")
def equal_mass_bins(
    z: jax.Array, y: jax.Array, keep: jax.Array, bins: int
) -> CalibrationBins:
    """Counts in bins that end at quantiles of the confidences of the kept examples."""
    log_p, hits = _top(z, y)
    doubt = jnp.expm1(log_p)  # the confidence minus 1, which never ties
    steps = jnp.arange(1, bins, dtype=jnp.int32)
    edges = kept_quantile(doubt, keep, steps, bins)
    index = jnp.searchsorted(edges, doubt, side="right")
    return _binned(log_p, hits, keep, index, bins)


def bin_rates(
    bins: CalibrationBins,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Count, rate of hits, that minus the mean confidence, and share of each bin."""
    dtype = jnp.result_type(float)
    count, digits = (jnp.asarray(a).astype(dtype) for a in (bins.counts, bins.digits))
    excess = jnp.zeros_like(count)
    for i in reversed(range(_DIGITS)):
        excess = (excess + digits[..., i]) / _BASE
    n = jnp.maximum(count, 1)
    gap = (jnp.asarray(bins.hits - bins.likely).astype(dtype) - excess) / n
    total = jnp.maximum(jnp.sum(count, -1, keepdims=True), 1)
    return count, jnp.asarray(bins.hits).astype(dtype) / n, gap, count / total


def nan_if_invalid(bins: CalibrationBins, value: jax.Array) -> jax.Array:
    """NaN where an example was invalid, or a bin has more than its digits can hold."""
    ok = (bins.invalid == 0) & jnp.all(bins.counts < 2**25)
    return jnp.where(ok, value, jnp.nan)


@functools.partial(jax.jit, static_argnames=("bins", "closed", "classwise"))
def _counted(z, y, keep, bins, closed, classwise):
    edges = jnp.arange(1, bins, dtype=z.dtype) / bins
    side = "left" if closed == "right" else "right"

    def binned(log_p, hits, keep):
        index = jnp.searchsorted(edges, jnp.exp(log_p), side=side)
        return _binned(log_p, hits, keep, index, bins)

    log_p, hits = _top(z, y)
    if not classwise:
        return binned(log_p, hits, keep)
    each = keep[..., None] & (z > -jnp.inf)
    counts = jax.vmap(binned, -1)(
        numerics.log_softmax(z), numerics.is_label(z, y), each
    )
    return counts._replace(invalid=jnp.sum(keep & jnp.isnan(log_p), dtype=jnp.int32))


def _top(z, y):
    """Log-probability of the top class, NaN of what is invalid, and if it is right."""
    log_p = -numerics.max_and_log_sum(z)[1][..., 0]
    known = (y >= 0) & (y < z.shape[-1])
    log_p = jnp.where(jnp.max(z, -1) == -jnp.inf, -jnp.inf, log_p)
    return jnp.where(known, log_p, jnp.nan), jnp.argmax(z, -1) == y


def _binned(log_p, hits, keep, index, bins):
    """Counts of the kept examples in each bin. Those of probability 0 have no class."""
    p, invalid = jnp.exp(log_p), keep & jnp.isnan(log_p)
    likely = numerics.is_likely(log_p)
    excess = jnp.where(likely, jnp.expm1(log_p), p)
    sign, rest, rows = (
        jnp.sign(excess),
        jnp.abs(excess),
        [jnp.ones_like(hits), hits, likely],
    )
    for _ in range(_DIGITS):
        digit = jnp.floor(rest * _BASE)
        rest = rest * _BASE - digit
        rows.append(sign * digit)
    rows = jnp.stack([jnp.ravel(row).astype(jnp.int32) for row in rows], -1)
    keep = keep & ~invalid & (log_p > -jnp.inf)
    at = jnp.where(keep, index, bins).ravel()
    sums = jnp.zeros((bins, rows.shape[-1]), jnp.int32).at[at].add(rows, mode="drop")
    return CalibrationBins(
        *(sums[:, i] for i in range(3)),
        sums[:, 3:],
        jnp.sum(invalid, dtype=jnp.int32),
    )
