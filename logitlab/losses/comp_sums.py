"""Cross-entropy and the losses that are a function of the label's probability."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked, label_mask

__all__ = [
    "comp_rho_margin_loss",
    "comp_sum_loss",
    "cross_entropy",
    "focal_loss",
    "poly1_loss",
    "poly_n_loss",
    "weighted_ce",
]


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy that never rounds to zero, one value per example.

    .. math:: \ell = \log(1 + \sum_{c \ne y} e^{z_c - z_y}), \quad
        \text{or } -\sum_c q_c \log p_c \text{ for a distribution } q

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis. A distribution is taken as it is: it may sum to less than 1, and
        gets its own gradient.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label out of range; under ``jit``, where
        values are unknown, such a label gives NaN, never another class's loss.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``logsumexp(z) - z[y]`` is all rounding error from 17 on.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> cross_entropy(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return _with_distribution(logits, labels, axis, where)
    return numerics.label_nll(logits, labels, axis=axis, where=where)


def _with_distribution(logits, labels, axis, where):
    q = numerics.promote(labels, "labels")
    if q.shape != logits.shape:
        raise ValueError(
            f"labels has shape {q.shape}, expected {logits.shape} for a distribution "
            "over classes"
        )
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    return _cross_entropy(z, jnp.moveaxis(q, axis, -1).astype(z.dtype))


# `-sum(q * log_p)` and its derivative, written out: it costs one array less, and a
# class without mass is free to be hidden.
@jax.custom_jvp
def _cross_entropy(z, q):
    top, log_total = numerics.top_and_log_total(z)
    # Halves: the difference of the largest numbers times a small mass still fits.
    cost = 2 * (q * (top / 2 - z / 2)) + q * log_total
    cost = jnp.sum(jnp.where(q == 0, 0, cost), -1)
    return jnp.where(jnp.max(z, -1) == -jnp.inf, 0, cost)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
    (z, q), (dz, dq) = primals, tangents
    log_p = numerics.log_softmax(z)
    empty = jnp.max(z, -1, keepdims=True) == -jnp.inf
    mass = jnp.where(empty, 0, jnp.sum(q, -1, keepdims=True))
    # The slopes of a row add up to 0. That of a class with most of the probability
    # follows from the others: a difference of two numbers near 1 would lose it.
    lead = log_p > -0.69
    slope = jnp.where(lead, 0, numerics.softmax(z) * mass - q)
    others = jnp.where(empty, 0, jnp.sum(slope, -1, keepdims=True))
    slope = jnp.where(lead, -others, slope)
    hidden, lowest = z == -jnp.inf, jnp.finfo(z.dtype).min  # which times 0 is 0
    log_p = jnp.where(hidden, 0, jnp.maximum(log_p, lowest))
    change = slope * jnp.where(hidden, 0, dz) - log_p * dq
    return _cross_entropy(z, q), jnp.sum(change, -1)


def comp_sum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    max_log_loss: float | None = None,
) -> jax.Array:
    r"""Comp-sum loss: sum-exponential, cross-entropy, mean absolute error and between.

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
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``tau``
        negative or not one per example, or ``max_log_loss`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80. For
      ``tau < 1`` the value overflows to ``inf`` where ``(1 - tau) * log S`` passes 88
      (709 in float64); its slope stops at the largest finite number.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> comp_sum_loss(jnp.float32([2, 1, 0]), 0, tau=2.0)
    Array(0.334759, dtype=float32)
    """
    checked("tau", tau, lambda t: t >= 0, "at least 0")
    if max_log_loss is not None:
        checked("max_log_loss", max_log_loss, lambda m: m > 0, "positive")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    if max_log_loss is not None:
        nll = jnp.where(nll > max_log_loss, max_log_loss, nll)
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
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``tau``
        negative or not one per example, ``rho`` not positive.

    Numerics: relative error below 1e-5, value and gradient. No gradient at a margin
      below 0 or above ``rho``.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> comp_rho_margin_loss(jnp.float32([2, 1.5, 0]), 0)
    Array(0.4054651, dtype=float32)
    """
    checked("tau", tau, lambda t: t >= 0, "at least 0")
    checked("rho", rho, lambda r: r > 0, "positive")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    is_label, known = label_mask(z, labels)
    score = jnp.sum(jnp.where(is_label, z, 0), -1, keepdims=True)
    # Only the sloping part of the ramp sees the difference, which may overflow.
    rival = ~is_label & (z > -jnp.inf)
    lost = rival & (z >= score)
    margin = jnp.where(rival & ~lost, score, 0) - jnp.where(rival & ~lost, z, 0)
    near = rival & ~lost & (margin < rho)
    ramp = jnp.where(near, 1 - jnp.where(near, margin, 0) / rho, lost)
    return jnp.where(known, _outer(jnp.log1p(jnp.sum(ramp, -1)), tau), jnp.nan)


def _outer(nll, tau):
    """``(exp((1 - tau) nll) - 1) / (1 - tau)``, one ``tau`` for all or one each."""
    tau = jnp.asarray(tau, nll.dtype)
    if tau.ndim and tau.shape != nll.shape:
        raise ValueError(f"tau has shape {tau.shape}, expected () or {nll.shape}")
    return _power(nll, jnp.broadcast_to(1 - tau, nll.shape))


@jax.custom_jvp
def _power(nll, t):
    small, x, t = _exponent(nll, t)
    series = jnp.minimum(nll, jnp.finfo(nll.dtype).max) * _polynomial(x, _EXPREL)
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
    by_series = (nll * _polynomial(jnp.where(small, x, 0), _SLOPE)) * nll
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


def _polynomial(x, coefficients):
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    gamma: ArrayLike = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal loss over a softmax: cross-entropy that fades on easy examples.

    .. math:: \ell = -w_y (1 - p_y)^\gamma \log p_y

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      weights: one per class [C], or None for 1. Weight 0 selects the class out.
      gamma: at least 0; 0 gives the cross-entropy.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``gamma``
        negative, or ``weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, where
      the value itself is a normal number.

    Source: Lin et al. 2017, arXiv:1708.02002.

    >>> focal_loss(jnp.float32([2, 1, 0]), 1)
    Array(0.80294776, dtype=float32)
    """
    checked("gamma", gamma, lambda g: g >= 0, "at least 0")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    usual = (nll > 0) & (nll < 1e4)  # beyond, the factor is 1 and its slope a 0 * inf
    inner = jnp.where(usual, nll, 1)
    loss = jnp.where(usual, (-jnp.expm1(-inner)) ** gamma * inner, nll)
    if weights is None:
        return loss
    return _times_class_weight(loss, labels, weights, jnp.shape(logits)[axis])


def poly1_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Poly-1 loss: cross-entropy with another first coefficient in :math:`1 - p_y`.

    .. math:: \ell = -\log p_y + \epsilon (1 - p_y)

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      eps: above -1; the paper tunes 2 for ImageNet.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``eps`` not above -1.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Leng et al. 2022, arXiv:2204.12511.

    >>> poly1_loss(jnp.float32([2, 1, 0]), 1)
    Array(2.1628773, dtype=float32)
    """
    checked("eps", eps, lambda e: e > -1, "above -1")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    return nll - eps * jnp.expm1(-nll)


def poly_n_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Poly-N loss: cross-entropy with other first coefficients in :math:`1 - p_y`.

    .. math:: \ell = -\log p_y + \sum_{j=1}^N \epsilon_j (1 - p_y)^j

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      eps: N numbers, added to the coefficients ``1 / j`` of cross-entropy's own series;
        from ``-1 / j`` on, or the loss may reward being wrong.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      TypeError: ``eps`` is not floating point.
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``eps`` has not one axis.

    Numerics: relative error below 1e-5 of the largest term, value and gradient, for
      margins up to 80.

    Source: Leng et al. 2022, arXiv:2204.12511.

    >>> poly_n_loss(jnp.float32([2, 1, 0]), 1, eps=(1.0,)).round(5)
    Array(2.16288, dtype=float32)
    """
    eps = numerics.promote(eps, "eps")
    if eps.ndim != 1:
        raise ValueError(f"eps has shape {eps.shape}, expected [N]")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    wrong = -jnp.expm1(-nll)
    total = jnp.zeros_like(nll)
    for coefficient in eps.astype(nll.dtype)[::-1]:
        total = (total + coefficient) * wrong
    return nll + total


def weighted_ce(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy times the weight of the label's class.

    .. math:: \ell = -w_y \log p_y

    Elsewhere a mean reduction divides by the sum of the weights; here the caller does.

    Shapes: logits [..., C], labels [...], weights [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      weights: one per class, at least 0. Weight 0 selects the class out.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: class-weighted cross-entropy, as in ``torch.nn.CrossEntropyLoss``.

    >>> weighted_ce(jnp.float32([2, 1, 0]), 0, jnp.float32([10, 1, 1]))
    Array(4.0760593, dtype=float32)
    """
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    return _times_class_weight(nll, labels, weights, jnp.shape(logits)[axis])


def _times_class_weight(losses, labels, weights, classes):
    weights = jnp.asarray(weights, losses.dtype)
    if weights.shape != (classes,):
        raise ValueError(f"weights has shape {weights.shape}, expected {(classes,)}")
    y = jnp.asarray(labels)
    own = numerics.is_label(jnp.broadcast_to(weights, (*y.shape, classes)), y)
    w = jnp.sum(jnp.where(own, weights, 0), -1)
    out = (w == 0) & ~jnp.isnan(losses)
    return jnp.where(out, 0, w * jnp.where(out, 0, losses))


def _with_weights(key, shape, dtype):
    return *rows.class_labels(key, shape, dtype), jnp.linspace(0.5, 2, shape[-1])


ROWS = (
    rows.Row(
        cross_entropy,
        "example",
        rows.class_labels,
        "softmax collapse, arXiv:2501.04697",
        golden="softmax_collapse",
        convex=True,
        calibrated=True,
        proper=True,
        label_only=True,
    ),
    rows.Row(
        comp_sum_loss,
        "example",
        rows.class_labels,
        "Mao, Mohri and Zhong 2023, arXiv:2304.07288",
        hyper=dict(tau=1.5),
        golden="robust_baselines",
        upper=2.0,
        calibrated=True,
        label_only=True,
        note="convex for tau <= 1; bounded by 1 / (tau - 1) for tau > 1",
    ),
    rows.Row(
        comp_rho_margin_loss,
        "example",
        rows.class_labels,
        "Mao, Mohri and Zhong 2023, arXiv:2304.07288",
        smooth=False,
        cost="margins to all rivals are kept for the gradient",
    ),
    rows.Row(
        focal_loss,
        "example",
        rows.class_labels,
        "Lin et al. 2017, arXiv:1708.02002",
        calibrated=True,
        label_only=True,
    ),
    rows.Row(
        poly1_loss,
        "example",
        rows.class_labels,
        "Leng et al. 2022, arXiv:2204.12511",
        golden="standard_losses",
        calibrated=True,
        label_only=True,
    ),
    rows.Row(
        poly_n_loss,
        "example",
        rows.class_labels,
        "Leng et al. 2022, arXiv:2204.12511",
        hyper=dict(eps=(1.0, -0.5, 0.25)),
        label_only=True,
        note="calibrated if no coefficient is negative",
    ),
    rows.Row(
        weighted_ce,
        "example",
        _with_weights,
        "torch.nn.CrossEntropyLoss(weight=...)",
        golden="standard_losses",
        convex=True,
        label_only=True,
        symmetric=False,
        note="one weight per class",
    ),
)
