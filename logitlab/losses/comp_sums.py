"""Cross-entropy and the losses that are a function of the label's probability."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import _special
from logitlab.numerics.arguments import (
    check_distribution_shape,
    check_range,
    distribution,
    expected,
    hyper,
    is_soft,
    one_hot_mask,
    weighted,
)

__all__ = [
    "comp_rho_margin_loss",
    "comp_sum_loss",
    "cross_entropy",
    "focal_loss",
    "weighted_cross_entropy",
]


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy that never rounds to zero, one value per example.

    Use it when an example has one class, or a distribution over classes; exact at any
    margin.

    .. math:: \ell = \log(1 + \sum_{c \ne y} e^{z_c - z_y}), \quad
        \text{or } -\sum_c q_c \log p_c \text{ for a distribution } q

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, negative ones for "no label", or floats of the logits'
        shape, a distribution over the class axis. A distribution is taken as it is: it
        may sum to less than 1, and gets its own gradient.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits); NaN without a label, for
      :func:`logitlab.numerics.masked_mean` to leave out. 0 where every class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label of C or more; under ``jit``, where
        values are unknown, such a label gives NaN, never another class's loss.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``logsumexp(z) - z[y]`` is all rounding error from 17 on.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cross_entropy
    >>> cross_entropy(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    numerics.check_is_array(logits, "logits")
    numerics.check_is_array(labels, "labels")
    logits = jnp.asarray(logits)
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)  # whose integers JAX may narrow
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return _with_distribution(logits, labels, axis, where)
    return numerics.label_nll(logits, labels, axis=axis, where=where)


def _with_distribution(logits, labels, axis, where):
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    q = numerics.promote_to_float32(labels, "labels")
    check_distribution_shape("labels", q, logits.shape)
    return _cross_entropy(z, jnp.moveaxis(q, axis, -1).astype(z.dtype))


# Exact, where a class is hidden too: it then gets no share of the others' slopes.
@jax.custom_jvp
def _cross_entropy(z, q):
    top, log_total = numerics.max_and_log_sum(z)
    log_p = numerics.below_top(z, top, log_total) - log_total
    cost = -jnp.sum(jnp.where(q == 0, 0, q * log_p), -1)
    return jnp.where(jnp.max(z, -1) == -jnp.inf, 0, cost)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
    (z, q), (dz, dq) = primals, tangents
    log_p = numerics.log_softmax(z)
    empty = jnp.max(z, -1, keepdims=True) == -jnp.inf
    mass = jnp.where(empty, 0, jnp.sum(q, -1, keepdims=True))
    # The slopes of a row add up to 0. That of a class with most of the probability
    # follows from the others: a difference of two numbers near 1 would lose it.
    lead = numerics.is_likely(log_p)
    slope = jnp.where(lead, 0, numerics.softmax(z) * mass - q)
    others = jnp.where(empty, 0, jnp.sum(slope, -1, keepdims=True))
    slope = jnp.where(lead, -others, slope)
    hidden = z == -jnp.inf
    change = slope * jnp.where(hidden, 0, dz) - jnp.where(hidden, 0, log_p) * dq
    return _cross_entropy(z, q), jnp.sum(change, -1)


def comp_sum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    max_log_loss: ArrayLike | None = None,
) -> jax.Array:
    r"""Comp-sum loss: sum-exponential, cross-entropy, mean absolute error and between.

    Use it when you want one knob, ``tau``, from the sum-exponential loss through
    cross-entropy to the absolute error.

    .. math:: \ell_\tau = \frac{S^{1-\tau} - 1}{1 - \tau}, \quad
        S = \sum_c e^{z_c - z_y} = 1 / p_y, \quad \ell_1 = \log S

    ``tau=0`` is the sum-exponential loss, 1 the cross-entropy, between 1 and 2 the
    generalized cross-entropy with ``q = tau - 1``, 2 is :math:`1 - p_y`.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      tau: at least 0, a number or one per example; may be traced and has a gradient.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does: ``inf``, or ``1 / (tau - 1)`` for ``tau > 1``.
      max_log_loss: caps the cross-entropy inside; no gradient beyond. Use it for
        ``tau < 1``, where the loss grows like an exponential.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``tau``
        negative or not one per example, or ``max_log_loss`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80. For
      ``tau < 1`` the value overflows to ``inf`` where ``(1 - tau) * log S`` passes 88
      (709 in float64); its slope stops at the largest finite number.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import comp_sum_loss
    >>> comp_sum_loss(jnp.float32([2, 1, 0]), 0, tau=2.0)
    Array(0.334759, dtype=float32)
    """
    check_range("tau", tau, lambda t: t >= 0, "at least 0")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    if max_log_loss is not None:
        positive = (lambda m: m > 0), "positive"
        cap = hyper("max_log_loss", max_log_loss, nll.dtype, *positive)
        nll = jnp.where(nll > cap, cap, nll)
    return _outer(nll, tau)


def comp_rho_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    rho: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Comp-sum loss of clipped margins, which the adversarial theory needs.

    Use it when you need the loss of the adversarial theory without an attack.

    .. math:: \Phi_\tau\Bigl(\sum_{c \ne y} \min(\max(0, 1 - (z_y - z_c)/\rho), 1)
        \Bigr), \quad \Phi_\tau(u) = \frac{(1 + u)^{1-\tau} - 1}{1 - \tau}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      tau: at least 0, as in ``comp_sum_loss``.
      rho: positive; a margin of ``rho`` costs nothing.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. A hidden label loses to all of them.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``tau``
        negative or not one per example, ``rho`` not positive.

    Numerics: relative error below 1e-5, value and gradient. No gradient at a margin
      below 0 or above ``rho``.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import comp_rho_margin_loss
    >>> comp_rho_margin_loss(jnp.float32([2, 1.5, 0]), 0)
    Array(0.4054651, dtype=float32)
    """
    check_range("tau", tau, lambda t: t >= 0, "at least 0")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    rho = hyper("rho", rho, z.dtype, lambda r: r > 0, "positive")
    is_label, known = one_hot_mask(z, labels)
    score = jnp.sum(jnp.where(is_label, z, 0), -1, keepdims=True)
    rival = ~is_label & (z > -jnp.inf)
    margin = jnp.where(rival, score, 0) - jnp.where(rival, z, 0)
    lost = rival & (margin <= 0)
    near = rival & ~lost & (margin < rho)
    ramp = jnp.where(near, 1 - jnp.where(near, margin, 0) / rho, lost)
    return jnp.where(known, _outer(jnp.log1p(jnp.sum(ramp, -1)), tau), jnp.nan)


def _outer(nll, tau):
    """``(exp((1 - tau) nll) - 1) / (1 - tau)``, one ``tau`` for all or one each."""
    tau = hyper("tau", tau, nll.dtype)
    if tau.ndim and tau.shape != nll.shape:
        raise ValueError(f"tau has shape {tau.shape}, expected () or {nll.shape}")
    return _power(nll, jnp.broadcast_to(1 - tau, nll.shape))


@jax.custom_jvp  # exact at confident labels, and finite where an exponential is not
def _power(nll, t):
    small, x, t = _exponent(nll, t)
    series = jnp.minimum(nll, jnp.finfo(nll.dtype).max) * _special.polynomial(
        x, _EXPREL
    )
    power = jnp.where(small, series, jnp.expm1(x) / jnp.where(small, 1, t))
    return jnp.where((nll == jnp.inf) & (t >= 0), jnp.inf, power)


@_power.defjvp
def _power_jvp(primals, tangents):
    (nll, t), (dnll, dt) = primals, tangents
    largest = jnp.finfo(nll.dtype).max
    small, x, _ = _exponent(nll, t)
    # An infinite slope times a class's slope of zero would be NaN.
    x = jnp.minimum(x, jnp.log(largest) * (1 - 4 * jnp.finfo(nll.dtype).eps))
    slope = jnp.exp(x)
    by_series = (nll * _special.polynomial(jnp.where(small, x, 0), _SLOPE)) * nll
    safe = jnp.where(small, 1, t)
    by_t = jnp.where(small, by_series, (x * slope - jnp.expm1(x)) / safe / safe)
    # A loss at inf, with a limit of 0 times inf: the cap keeps `0 * dt` a zero.
    by_t = jnp.clip(jnp.where(nll == jnp.inf, 0, by_t), -largest, largest)
    return _power(nll, t), slope * dnll + by_t * dt


def _exponent(nll, t):
    """Where the series is used, ``t * nll`` without ``0 * inf``, and ``t``."""
    x = t * jnp.minimum(nll, jnp.finfo(nll.dtype).max)
    small = jnp.abs(x) < 0.1
    return small, x, t


# (exp(x) - 1) / x and (x exp(x) - exp(x) + 1) / x^2, to 1e-16 for |x| < 0.1.
_EXPREL = tuple(1 / float(np.prod(range(1, n + 2))) for n in range(10))
_SLOPE = tuple((n + 1) / float(np.prod(range(1, n + 3))) for n in range(10))


def focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    gamma: ArrayLike = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal loss over a softmax: cross-entropy, down-weighted on easy examples.

    Use it when easy examples drown the hard ones.

    .. math:: \ell = -w_y (1 - p_y)^\gamma \log p_y, \quad \text{or }
        -\sum_c q_c w_c (1 - p_c)^\gamma \log p_c \text{ for a distribution } q

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      weights: one per class [C], or None for 1. Weight 0 selects the class out.
      gamma: at least 0; 0 gives the cross-entropy.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``gamma``
        negative, or ``weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, where
      the value itself is a normal number.

    Source: Lin et al. 2017, arXiv:1708.02002.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import focal_loss
    >>> focal_loss(jnp.float32([2, 1, 0]), 1)
    Array(0.80294776, dtype=float32)
    """
    check_range("gamma", gamma, lambda g: g >= 0, "at least 0")

    def faded(nll):
        usual = (nll > 0) & (nll < 1e4)  # beyond, the factor is 1, its slope a 0 * inf
        inner = jnp.where(usual, nll, 1)
        factor = (-jnp.expm1(-inner)) ** hyper("gamma", gamma, nll.dtype)
        return jnp.where(usual, factor * inner, nll)

    return _expected_with_weights(faded, logits, labels, weights, axis, where)


def weighted_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy times the weight of the label's class.

    Use it when you have a weight for each class.

    .. math:: \ell = -w_y \log p_y, \quad \text{or } -\sum_c w_c q_c \log p_c
        \text{ for a distribution } q

    ``label_smoothing_loss`` takes weights too. Elsewhere a mean reduction divides by
    the sum of the weights; here the caller does.

    Shapes: logits [..., C], labels [...], weights [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      weights: one per class, at least 0. Weight 0 selects the class out.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: class-weighted cross-entropy, as in ``torch.nn.CrossEntropyLoss``.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import weighted_cross_entropy
    >>> weighted_cross_entropy(jnp.float32([2, 1, 0]), 0, jnp.float32([10, 1, 1]))
    Array(4.0760593, dtype=float32)
    """
    if not is_soft(labels):
        return _expected_with_weights(
            lambda nll: nll, logits, labels, weights, axis, where
        )
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    q = distribution(z, labels, jnp.shape(logits), axis)
    return cross_entropy(z, q * class_weights(weights, z))


def class_weights(weights: ArrayLike, z: jax.Array) -> jax.Array:
    """Weights of classes beside promoted logits, whose classes are last.

    Shapes: weights [C], z [..., C] -> [..., C]

    Raises:
      ValueError: ``weights`` is not one per class.
    """
    w = jnp.asarray(weights, z.dtype)
    if w.shape != z.shape[-1:]:
        raise ValueError(f"weights has shape {w.shape}, expected {z.shape[-1:]}")
    return jnp.broadcast_to(w, z.shape)


def _expected_with_weights(loss, logits, labels, weights, axis, where):
    if weights is None:
        return expected(loss, logits, labels, axis=axis, where=where)
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    w = class_weights(weights, z)
    if is_soft(labels):
        return expected(loss, z, distribution(z, labels, jnp.shape(logits), axis) * w)
    own = numerics.is_label(z, numerics.wide_labels(labels))
    return weighted(jnp.sum(jnp.where(own, w, 0), -1), expected(loss, z, labels))
