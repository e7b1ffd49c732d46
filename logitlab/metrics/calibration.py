"""Whether probabilities mean what they say: calibration errors and proper scores."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.confidence_bins import (
    CalibrationBins,
    bin_rates,
    calibration_bins,
    equal_mass_bins,
    nan_if_invalid,
)
from logitlab.metrics.mean import Mean, mean_of
from logitlab.numerics.arguments import check_count, kept_examples

__all__ = [
    "brier_decomposition",
    "brier_score",
    "calibration_error",
    "classwise_ece",
    "debiased_ece",
    "expected_calibration_error",
    "nll",
    "reliability_bins",
]


def calibration_error(
    bins: CalibrationBins,
    *,
    norm: Literal["l1", "l2", "max"] = "l1",
    debiased: bool = False,
) -> jax.Array:
    r"""Distance between how often the top class is right and how sure the model is.

    For bins that were added up over batches; ``expected_calibration_error`` does both
    for one batch.

    .. math:: \sum_b \frac{n_b}{N} |g_b|, \quad
        \Bigl(\sum_b \frac{n_b}{N} g_b^2\Bigr)^{1/2}, \quad \text{or } \max_b |g_b|

    with :math:`g_b` the accuracy minus the mean confidence of the :math:`n_b` examples
    in bin b. Empty bins add nothing. Even a perfectly calibrated model has a positive
    error, as each bin has noise; ``debiased`` subtracts its expectation from the l2
    form, the variance :math:`a_b (1 - a_b) / (n_b - 1)` of the accuracy, and takes what
    falls below 0 for 0.

    Args:
      bins: of ``calibration_bins``, [..., B].
      norm: of the gaps.
      debiased: needs the norm "l2"; a bin with one example is left as it is.

    Returns:
      [...], floats of JAX's default precision; 0 without examples.

    Raises:
      ValueError: an unknown norm, or ``debiased`` with another one than "l2".

    Source: Guo et al. 2017, arXiv:1706.04599; debiased, Kumar et al. 2019,
      arXiv:1909.10155.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import calibration_bins, calibration_error
    >>> counts = calibration_bins(jnp.float32([[2, 0], [0, 1]]), jnp.array([0, 0]))
    >>> print(f"{calibration_error(counts, norm='max'):.4f}")
    0.7311
    """
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm is {norm!r}, expected 'l1', 'l2' or 'max'")
    if debiased and norm != "l2":
        raise ValueError(f"norm is {norm!r}, expected 'l2' for a debiased error")
    return _error(bins, norm, debiased)


def expected_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    norm: Literal["l1", "l2", "max"] = "l1",
    binning: Literal["width", "mass"] = "width",
    closed: Literal["left", "right"] = "right",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean distance of accuracy and confidence over bins of confidence, the ECE.

    The number to report for the calibration of a classifier, beside ``nll``; with
    ``norm="max"`` it is the MCE, with ``binning="mass"`` the adaptive ECE. For more
    than one batch add up ``calibration_bins``.

    .. math:: \sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|

    Bins of equal mass end at the linear quantiles 1/B, 2/B, ... of the confidences and
    are closed on the left. They need all examples at once: gather the logits first.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores, not probabilities, see ``calibration_bins``.
      labels: ints in ``[0, C)``; a negative one makes the result NaN.
      bins: how many.
      norm: "l1", "l2" or "max", see ``calibration_error``.
      binning: bins of equal width, or of equal numbers of examples.
      closed: which end of a bin of equal width belongs to it. Conventions differ: the
        original code has "right", torchmetrics "left".
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; none at all give 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, ``bins`` is below 1, ``norm``, ``binning`` or
        ``closed`` is unknown, or a label is C or more (NaN under ``jit``).

    Numerics: absolute error below 1e-6 in float32 at any margin. Confidences that
      float32 rounds to 1 are below it here, in the last bin.

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import expected_calibration_error
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> expected_calibration_error(z, y).round(4)
    Array(0.2992, dtype=float32)
    """
    if binning not in ("width", "mass"):
        raise ValueError(f"binning is {binning!r}, expected 'width' or 'mass'")
    if binning == "width":
        counts = calibration_bins(
            logits, labels, bins=bins, closed=closed, axis=axis, where=where, mask=mask
        )
    else:
        check_count("bins", bins)
        z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
        counts = equal_mass_bins(z, y, keep, bins)
    return calibration_error(counts, norm=norm)


def classwise_ece(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    norm: Literal["l1", "l2", "max"] = "l1",
    closed: Literal["left", "right"] = "right",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean over the classes of the calibration error of each class's probability.

    Where probabilities of all classes are used, not only the top one's: every class is
    a binary problem over all examples.

    .. math:: \frac1C \sum_k \sum_b \frac{n_{kb}}{N_k}
        |\overline{[y = k]}_{kb} - \overline{p_k}_{kb}|

    For more than one batch add up ``calibration_bins(classwise=True)``. A class that is
    hidden everywhere does not count.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args and errors are those of ``expected_calibration_error``.

    Source: Kull et al. 2019, arXiv:1910.12656.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import classwise_ece
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> classwise_ece(z, y).round(4)
    Array(0.2992, dtype=float32)
    """
    counts = calibration_bins(
        logits,
        labels,
        bins=bins,
        closed=closed,
        classwise=True,
        axis=axis,
        where=where,
        mask=mask,
    )
    some = counts.counts.sum(-1) > 0
    error = calibration_error(counts, norm=norm)
    return error.sum() / jnp.maximum(some.sum(), 1).astype(error.dtype)


def debiased_ece(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    closed: Literal["left", "right"] = "right",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""The l2 calibration error without what the noise of the bins adds to it.

    To compare models on few examples, where the plain error grows with the number of
    bins. ``calibration_error(bins, norm="l2", debiased=True)`` of added bins is the
    same number over batches.

    .. math:: \Bigl(\sum_b \frac{n_b}{N}
        \Bigl[g_b^2 - \frac{a_b (1 - a_b)}{n_b - 1}\Bigr]\Bigr)_+^{1/2}

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args and errors are those of ``expected_calibration_error``.

    Source: Kumar et al. 2019, arXiv:1909.10155.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import debiased_ece
    >>> z, y = jnp.float32([[1, 0], [1, 0], [1, 0]]), jnp.array([0, 0, 1])
    >>> debiased_ece(z, y)
    Array(0., dtype=float32)
    """
    counts = calibration_bins(
        logits, labels, bins=bins, closed=closed, axis=axis, where=where, mask=mask
    )
    return calibration_error(counts, norm="l2", debiased=True)


def reliability_bins(bins: CalibrationBins) -> dict[str, jax.Array]:
    """What a reliability diagram shows: accuracy and mean confidence of each bin.

    Returns:
      A dict of ``count``, ``accuracy``, ``confidence``, each [..., B]; the last two are
      NaN for an empty bin, which a plot leaves out.

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import calibration_bins, reliability_bins
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> shown = reliability_bins(calibration_bins(z, y, bins=2))
    >>> shown["confidence"].round(4), shown["accuracy"].round(4)
    (Array([   nan, 0.8548], dtype=float32), Array([   nan, 0.6667], dtype=float32))
    """
    n, accuracy, gap, _ = bin_rates(bins)
    parts = {"accuracy": accuracy, "confidence": accuracy - gap}
    shown = {
        k: nan_if_invalid(bins, jnp.where(n > 0, v, jnp.nan)) for k, v in parts.items()
    }
    return {"count": bins.counts} | shown


def brier_decomposition(bins: CalibrationBins) -> dict[str, jax.Array]:
    r"""Splits a Brier score into reliability, resolution and uncertainty.

    To see whether a score is poor because confidences are off (``reliability``, 0 is
    best), or because they do not tell right from wrong (``resolution``, up to
    ``uncertainty``).

    .. math:: \sum_b \frac{n_b}{N} g_b^2, \quad
        \sum_b \frac{n_b}{N} (a_b - \bar a)^2, \quad \bar a (1 - \bar a)

    Reliability - resolution + uncertainty is the Brier score of the event with each
    confidence replaced by its bin's mean. The bins of ``classwise=True`` give the terms
    of each class, whose sums over the classes belong to ``brier_score``.

    Returns:
      A dict of ``reliability``, ``resolution``, ``uncertainty``, each [...]; 0 without
      examples.

    Source: Murphy 1973, "A new vector partition of the probability score".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import brier_decomposition, calibration_bins
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> terms = brier_decomposition(calibration_bins(z, y))
    >>> print(*(f"{name} {terms[name]:.4f}" for name in terms))
    reliability 0.1836 resolution 0.2222 uncertainty 0.2222
    """
    _, accuracy, gap, share = bin_rates(bins)
    mean = jnp.sum(share * accuracy, -1, keepdims=True)
    terms = {
        "reliability": jnp.sum(share * gap**2, -1),
        "resolution": jnp.sum(share * (accuracy - mean) ** 2, -1),
        "uncertainty": (mean * (1 - mean))[..., 0],
    }
    return {name: nan_if_invalid(bins, term) for name, term in terms.items()}


def brier_score(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scale_by_half: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean squared distance of the probabilities from the one-hot label, 0 to 2.

    A proper score that, unlike ``nll``, one confident mistake cannot dominate.

    .. math:: \frac1N \sum_i \sum_k (p_{ik} - [y_i = k])^2

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> ([], [])

    Args:
      logits: scores, not probabilities.
      labels: ints in ``[0, C)``; a negative one makes the mean NaN.
      scale_by_half: half of it, which for two classes is the binary Brier score.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5 of each example, as far as its square fits.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import brier_score
    >>> z, y = jnp.float32([[2, 0], [0, 1]]), jnp.array([0, 0])
    >>> print(f"{float(brier_score(z, y)):.4f}")
    0.5487
    """
    z, y, _ = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    miss = numerics.expm1(-numerics.label_nll(z, y))
    others = jnp.where(numerics.is_label(z, y), 0, numerics.softmax(z))
    score = miss**2 + jnp.sum(others**2, -1)
    return mean_of(score / 2 if scale_by_half else score, mask)


def nll(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean negative log-likelihood of the labels in nats, the sharpest proper score.

    .. math:: -\frac1N \sum_i \log p_{i y_i}

    ``losses.cross_entropy`` of each example, as a mean that adds up over batches.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> ([], [])

    Args and errors are those of ``brier_score``.

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import nll
    >>> print(f"{float(nll(jnp.float32([[2, 0], [0, 1]]), jnp.array([0, 0]))):.4f}")
    0.7201
    """
    z, y, _ = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    return mean_of(numerics.label_nll(z, y), mask)


@functools.partial(jax.jit, static_argnames=("norm", "debiased"))
def _error(bins, norm, debiased):
    n, a, gap, share = bin_rates(bins)
    if norm == "max":
        error = jnp.max(jnp.abs(gap), -1)
    elif norm == "l1":
        error = jnp.sum(share * jnp.abs(gap), -1)
    else:
        noise = jnp.where(n > 1, a * (1 - a) / jnp.maximum(n - 1, 1), 0)
        square = jnp.sum(share * (gap**2 - (noise if debiased else 0)), -1)
        error = jnp.sqrt(jnp.maximum(square, 0))
    return nan_if_invalid(bins, error)
