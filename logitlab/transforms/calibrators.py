"""Calibrators of classes, and how any calibrator is applied."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._leads import below_lead
from logitlab.numerics.arguments import hyper, kept_examples
from logitlab.transforms._likelihood import minimize
from logitlab.transforms.binary_calibrators import (
    HistogramCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    calibrate_binary,
)

__all__ = [
    "MatrixCalibrator",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "calibrate",
    "fit_matrix_scaling",
    "fit_temperature",
    "fit_vector_scaling",
]

_LOG_BOUND = 10.0  # of the temperature's logarithm


class TemperatureCalibrator(NamedTuple):
    """Divides logits by a temperature.

    Attributes:
      temperature: above 0, [].
      at_bound: whether no temperature between e^-10 and e^10 is best, [].
    """

    temperature: jax.Array
    at_bound: jax.Array


class VectorCalibrator(NamedTuple):
    """Scales and shifts the logit of each class.

    Attributes:
      scale: [C].
      bias: [C].
      at_bound: whether no finite parameters are best: one reached 1000 in size, or all
        examples together lost less than 0.001, as where labels can be separated; or
        there were no examples, [].
      slope: the largest derivative left, over the objective; below 1e-5 (float64:
        1e-9) where the fit has converged, [].
    """

    scale: jax.Array
    bias: jax.Array
    at_bound: jax.Array
    slope: jax.Array


class MatrixCalibrator(NamedTuple):
    """Multiplies logits by a matrix and shifts them.

    Attributes:
      kernel: [C, C], from the logits' classes to those of the result.
      bias: [C].
      at_bound: as in ``VectorCalibrator``.
      slope: as in ``VectorCalibrator``.
    """

    kernel: jax.Array
    bias: jax.Array
    at_bound: jax.Array
    slope: jax.Array


_Calibrator = (
    TemperatureCalibrator
    | VectorCalibrator
    | MatrixCalibrator
    | PlattCalibrator
    | IsotonicCalibrator
    | HistogramCalibrator
)


def calibrate(
    logits: ArrayLike,
    calibrator: _Calibrator,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Calibrated logits, for any loss, metric or decision.

    A temperature, vector or matrix takes logits of classes, [..., C]; a Platt, isotonic
    or histogram calibrator takes those of a binary classifier, elementwise, and returns
    log-odds, whose sigmoid is the calibrated probability.

    Args:
      logits: of the same model as those that the calibrator was fitted to.
      calibrator: what one of the ``fit_`` functions returned.
      axis: the class axis; without effect on binary calibrators.
      where: bool, the classes that take part; not for binary calibrators.

    Returns:
      Logits of the same shape, float32 (float64 for float64 logits), ``-inf`` at hidden
      classes. A probability of 0 or 1, of isotonic or histogram calibrators, has
      infinite log-odds.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` is not bool, or
        ``calibrator`` is none.
      ValueError: the shapes disagree.

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import calibrate, fit_temperature
    >>> z = jnp.float32([[4, 0], [4, 0], [4, 0], [4, 0]])
    >>> fitted = fit_temperature(z, jnp.array([0, 0, 0, 1]))
    >>> calibrate(z[0], fitted).round(4)  # three of four are right
    Array([1.0986, 0.    ], dtype=float32)
    """
    if isinstance(
        calibrator, PlattCalibrator | IsotonicCalibrator | HistogramCalibrator
    ):
        return calibrate_binary(numerics.promote_to_float32(logits), calibrator)
    if not isinstance(
        calibrator, TemperatureCalibrator | VectorCalibrator | MatrixCalibrator
    ):
        raise TypeError(
            f"calibrator is of type {type(calibrator).__name__}, expected what a fit_ "
            "function returns"
        )
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    return jnp.moveaxis(_calibrate(z, calibrator), -1, axis)


def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> TemperatureCalibrator:
    r"""The temperature that makes the labels most likely.

    The first calibrator to try: one number, and predictions stay as they are.

    .. math:: \min_T \, -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    Convex in 1 / T, and solved by Newton's method between bounds. Where the top class
    is always right the best temperature is 0, and where the logits say nothing it is
    infinite: the nearer of e^-10 and e^10 is returned, and ``at_bound`` says so.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> ([], [])

    Args:
      logits: of held-out examples.
      labels: ints in ``[0, C)``; a negative one makes the fit NaN.
      axis: the class axis.
      where: bool, the classes that take part; an example whose label is hidden is left
        out.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Returns:
      A ``TemperatureCalibrator``; 1, at the bound, where nothing decides: without
      examples, and for logits that are all equal.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is C or more (NaN under ``jit``).

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import fit_temperature
    >>> z = jnp.float32([[4, 0], [4, 0], [4, 0], [4, 0]])
    >>> print(f"{fit_temperature(z, jnp.array([0, 0, 0, 1])).temperature:.4f}")
    3.6410
    """
    return _fit_temperature(*_examples(logits, labels, axis, where, mask))


def fit_vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> VectorCalibrator:
    r"""A scale and a bias for each class, by maximum likelihood.

    Where classes are miscalibrated differently, as after training on other class
    frequencies. Predictions may change.

    .. math:: \min_{a, b} \, -\frac1N \sum_i
        \log \mathrm{softmax}(a \odot z_i + b)_{y_i}

    by L-BFGS from a = 1, b = 0. The biases are unique up to a constant.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...]
      -> ([C], [C], [], [])

    Args and errors are those of ``fit_temperature``.

    Returns:
      A ``VectorCalibrator``; without examples it changes nothing.

    Source: Guo et al. 2017, arXiv:1706.04599.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import calibrate, fit_vector_scaling
    >>> z = jnp.float32([[4, 0], [4, 0], [4, 0], [4, 0]])
    >>> fitted = fit_vector_scaling(z, jnp.array([0, 0, 0, 1]))
    >>> print(f"{jax.nn.softmax(calibrate(z[0], fitted))[0]:.3f}")
    0.750
    """
    return _fit_vector(*_examples(logits, labels, axis, where, mask))


def fit_matrix_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lam: ArrayLike = 0.0,
    mu: ArrayLike = 0.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> MatrixCalibrator:
    r"""A linear map of the logits, by maximum likelihood under the ODIR penalty.

    The most flexible: for few classes and many examples, or with penalties.

    .. math:: \min_{W, b} \, -\frac1N \sum_i \log \mathrm{softmax}(z_i W + b)_{y_i}
        + \frac{\lambda}{C (C - 1)} \sum_{j \ne k} W_{jk}^2 + \frac{\mu}{C} \sum_k b_k^2

    by L-BFGS from the identity. Hidden logits count as 0 in the others' sums.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...]
      -> ([C, C], [C], [], [])

    Args:
      logits: of held-out examples.
      labels: ints in ``[0, C)``; a negative one makes the fit NaN.
      lam: weight of the off-diagonal entries, at least 0.
      mu: weight of the biases, at least 0.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      A ``MatrixCalibrator``; without examples it changes nothing.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, ``lam`` or ``mu`` is negative, or a label is C or
        more (NaN under ``jit``).

    Source: Guo et al. 2017, arXiv:1706.04599; ODIR, Kull et al. 2019, arXiv:1910.12656.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import calibrate, fit_matrix_scaling
    >>> z = jnp.float32([[4, 0], [4, 0], [4, 0], [4, 0]])
    >>> fitted = fit_matrix_scaling(z, jnp.array([0, 0, 0, 1]))
    >>> print(f"{jax.nn.softmax(calibrate(z[0], fitted))[0]:.3f}")
    0.750
    """
    z, y, keep = _examples(logits, labels, axis, where, mask)
    lam = hyper("lam", lam, z.dtype, lambda v: v >= 0, "at least 0")
    mu = hyper("mu", mu, z.dtype, lambda v: v >= 0, "at least 0")
    return _fit_matrix(z, y, keep, lam, mu)


def _calibrate(z, calibrator):
    shown = z > -jnp.inf
    if isinstance(calibrator, TemperatureCalibrator):
        new = z / calibrator.temperature.astype(z.dtype)
    else:
        scale, bias = (jnp.asarray(a, z.dtype) for a in calibrator[:2])
        if bias.shape != z.shape[-1:]:
            raise ValueError(
                f"logits has shape {z.shape}, expected [..., {bias.size}] as those of "
                "the fit"
            )
        z = jnp.where(shown, z, 0)
        bias = bias.reshape((1,) * (z.ndim - 1) + (-1,))
        if isinstance(calibrator, VectorCalibrator):
            new = z * scale.reshape(bias.shape) + bias
        else:
            new = jnp.matmul(z, scale, precision="highest") + bias
    return jnp.where(shown, new, -jnp.inf)


def _examples(logits, labels, axis, where, mask):
    """Logits [N, C]; labels, -1 for none; and which examples count."""
    z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    return z.reshape(-1, z.shape[-1]), y.ravel(), keep.ravel()


@jax.jit
def _fit_temperature(z, y, keep):
    below, _, shown, _ = below_lead(z)
    hot = numerics.is_label(z, y)
    known = (y >= 0) & (y < z.shape[-1])
    keep = keep & ~(hot & ~shown).any(-1)
    target = jnp.where(known, jnp.sum(jnp.where(hot, below, 0), -1), jnp.nan)

    def slopes(log_beta):
        """First and second derivative of the likelihood in 1 / T, without its sign."""
        e = jnp.where(shown, jnp.exp(jnp.exp(log_beta) * below), 0)
        total = jnp.maximum(jnp.sum(e, -1), 1)
        mean = jnp.sum(e * below, -1) / total
        square = jnp.sum(e * below**2, -1) / total
        rows = jnp.stack([mean - target, square - mean**2], -1)
        return jnp.sum(jnp.where(keep[:, None], rows, 0), 0)

    def step(carry):
        at, low, high, moved, k = carry
        first, second = slopes(at)
        low, high = jnp.where(first < 0, at, low), jnp.where(first > 0, at, high)
        newton = at - first / (jnp.exp(at) * second)
        # Where Newton's step leaves the bounds or does not shrink, they are halved.
        fine = (newton >= low) & (newton <= high) & (jnp.abs(newton - at) < moved / 2)
        new = jnp.where(first == 0, at, jnp.where(fine, newton, (low + high) / 2))
        return new, low, high, jnp.abs(new - at), k + 1

    def unfinished(carry):
        at, _, _, moved, k = carry
        return (moved > 4 * jnp.finfo(z.dtype).eps * (1 + jnp.abs(at))) & (k < 100)

    low, high = (jnp.asarray(b, z.dtype) for b in (-_LOG_BOUND, _LOG_BOUND))
    cold, hot_end = slopes(high)[0], slopes(low)[0]
    found, *_ = jax.lax.while_loop(
        unfinished, step, (jnp.zeros_like(low), low, high, 4 * high, 0)
    )
    flat = (cold == 0) & (hot_end == 0)
    found = jnp.where(hot_end >= 0, low, jnp.where(cold <= 0, high, found))
    found = jnp.where(flat, 0, found)
    found = jnp.where(jnp.isnan(cold), jnp.nan, found)
    return TemperatureCalibrator(jnp.exp(-found), (hot_end >= 0) | (cold <= 0))


@jax.jit
def _fit_vector(z, y, keep):
    def loss(parameters):
        return _mean_nll(VectorCalibrator(*parameters, True, 0.0), z, y, keep)

    one = jnp.ones(z.shape[-1], z.dtype)
    return VectorCalibrator(*minimize(loss, (one, 0 * one), jnp.sum(keep)))


@jax.jit
def _fit_matrix(z, y, keep, lam, mu):
    classes = z.shape[-1]
    eye = jnp.eye(classes, dtype=z.dtype)
    pairs = max(classes * (classes - 1), 1)

    def loss(parameters):
        kernel, bias = parameters
        data = _mean_nll(MatrixCalibrator(kernel, bias, True, 0.0), z, y, keep)
        off = jnp.sum(jnp.where(eye > 0, 0, kernel) ** 2) * lam / pairs
        return data + off + jnp.sum(bias**2) * mu / classes

    start = (eye, jnp.zeros(classes, z.dtype))
    return MatrixCalibrator(*minimize(loss, start, jnp.sum(keep)))


def _mean_nll(calibrator, z, y, keep):
    return numerics.masked_mean(numerics.label_nll(_calibrate(z, calibrator), y), keep)
