"""Losses that are one minus a metric of the confusion matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.confusion import _binary, _counts, _mask
from logitlab.numerics.arguments import hyper, weighted

__all__ = ["anyloss", "anyloss_hybrid", "splitter_penalty"]


_METRICS = ("accuracy", "fbeta", "balanced_accuracy", "gmean")


def anyloss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str = "fbeta",
    beta: ArrayLike = 1.0,
    scale: ArrayLike | None = 73.0,
    eps: ArrayLike = 1e-5,
    sqrt: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""AnyLoss: one minus a smooth confusion-matrix metric; one number per batch.

    Use it when the F-score, the balanced accuracy or another metric of the confusion
    matrix is what you report.

    .. math:: q = \sigma(L\,(\sigma(s) - 1/2)), \quad 1 - \begin{cases}
        (TP + TN) / N & \text{accuracy} \\
        (1 + b^2) TP / (b^2 n_1 + \sum q + \epsilon) & \text{fbeta} \\
        (n_0 TP + n_1 TN) / (2 n_1 n_0 + \epsilon) & \text{balanced accuracy} \\
        TP\,TN / (n_1 n_0 + \epsilon) & \text{gmean} \end{cases}

    with the soft counts of ``soft_confusion``. For integer labels of classes (one axis
    less than the logits) every class is taken against the rest with its softmax
    probability and the numbers are averaged; the paper has no such form, it is ours.

    Shapes: logits [...], labels [...], where [...], mask [...] -> []

    Args:
      logits: one score per example, or one per example and class.
      labels: 0 and 1 of the shape of ``logits`` (floats between are taken as they are),
        or classes, ints in ``[0, C)``.
      metric: ``accuracy``, ``fbeta``, ``balanced_accuracy`` or ``gmean``.
      beta: of ``fbeta``, above 0.
      scale: L, the amplification, about 2 to 75: with more, most examples have no
        gradient left. None takes the probabilities as they are.
      eps: added to the denominator of the metric.
      sqrt: for ``gmean``: the usual geometric mean, :math:`\sqrt{x + \epsilon}`. The
        released code minimises without the root.
      axis: the class axis, where labels are classes.
      where: bool, the logits (the classes) that take part. A class that is hidden for
        one example does not count that example.
      mask: bool, the examples that take part, of the shape of ``labels``, or of its
        first axes, where an example has more than one.

    Returns:
      A scalar without unit, float32 (float64 for float64 logits), at most 1; with
      ``sqrt`` it may be as low as ``-eps``. 0 without examples; NaN if one that takes
      part has a negative label, which means "no label".

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: an unknown metric, a hyper-parameter or a label of C or more, or wrong
        shapes; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80: the
      mistakes are summed, not one minus the hits.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745; the counts and eps as in
      doheonhan/anyloss_extension.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import anyloss
    >>> s, t = jnp.float32([2, -2]), jnp.array([1, 0])
    >>> print(anyloss(s, t, metric="accuracy", scale=None).round(4))
    0.1192
    """
    if metric not in _METRICS:
        raise ValueError(f"metric is {metric!r}, expected one of {_METRICS}")
    z = numerics.promote_to_float32(logits)
    beta, eps = _positive("beta", beta, z.dtype), _positive("eps", eps, z.dtype)
    if scale is not None:
        scale = _positive("scale", scale, z.dtype)
    if jnp.ndim(labels) == jnp.ndim(logits):
        keep = _mask(where, z.shape, "where", True) & _mask(mask, z.shape, "mask")
        keep = keep & (z > -jnp.inf)
        t = _binary(labels, z, keep)
        z = jnp.where(keep, z, 0)
        log_q, log_not_q = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
        # Near 0 the difference from a half is its own series, not a subtraction.
        near = jnp.abs(z) < 1
        half = jnp.tanh(jnp.where(near, z, 0) / 2) / 2
        beyond = jnp.where(near, half, jnp.exp(log_q) - 0.5)
        axes = tuple(range(z.ndim))
    else:
        z, keep, t = _one_hot(logits, labels, axis, where, mask)
        log_q = numerics.log_softmax(z)
        log_not_q = None
        beyond = jnp.exp(log_q) - 0.5
        axes = tuple(range(z.ndim - 1))
    if scale is not None:
        log_q, log_not_q = (
            jax.nn.log_sigmoid(scale * beyond),
            jax.nn.log_sigmoid(-scale * beyond),
        )
    q = jnp.exp(log_q)
    not_q = -numerics.expm1(log_q) if log_not_q is None else jnp.exp(log_not_q)
    losses = _one_minus(metric, _counts(q, not_q, t, keep, axes), beta, eps, sqrt)
    return numerics.masked_mean(losses, keep.any(axes))


def anyloss_hybrid(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    ratio: ArrayLike = 0.5,
    metric: str = "fbeta",
    beta: ArrayLike = 1.0,
    eps: ArrayLike = 1e-5,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mixture of a balanced cross-entropy and a metric: one number for a set.

    Use it when ``anyloss`` alone learns too slowly at the start.

    .. math:: \frac{1 - r}{N} \sum_i \Bigl( \frac{n_0}{N} t_i \log(1 + e^{-s_i}) +
        \frac{n_1}{N} (1 - t_i) \log(1 + e^{s_i}) \Bigr) + r\,(1 - \mathrm{metric})

    with the metric of ``anyloss`` without amplification. That the cross-entropy is a
    mean, not a sum, is inferred.

    Shapes: logits [...], labels [...], mask [...] -> []

    Args:
      logits: one score per example.
      labels: 0 and 1 of the shape of ``logits``.
      ratio: r, from 0 (cross-entropy) to 1 (metric).
      metric: ``accuracy``, ``fbeta``, ``balanced_accuracy`` or ``gmean``.
      beta: of ``fbeta``, above 0.
      eps: added to the denominator of the metric.
      mask: bool, the examples that take part, as for ``anyloss``.

    Returns:
      A scalar, float32 (float64 for float64 logits); 0 without examples, NaN if one
      that takes part has no label.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` not bool.
      ValueError: an unknown metric, a hyper-parameter or a label of C or more, or wrong
        shapes; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: doheonhan/anyloss_extension, beside AnyLoss, Han et al. 2024,
      arXiv:2405.14745.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import anyloss_hybrid
    >>> s, t = jnp.float32([2, -2]), jnp.array([1, 0])
    >>> print(f"{anyloss_hybrid(s, t, ratio=0.0):.4f}")
    0.0635
    """
    z = numerics.promote_to_float32(logits)
    within = (lambda v: (v >= 0) & (v <= 1)), "a number from 0 to 1"
    part = hyper("ratio", ratio, z.dtype, *within)
    rest = anyloss(
        logits, labels, metric=metric, beta=beta, scale=None, eps=eps, mask=mask
    )
    keep = _mask(mask, z.shape, "mask") & (z > -jnp.inf)
    t = _binary(labels, z, keep)
    z = jnp.where(keep, z, 0)
    total = jnp.maximum(jnp.sum(keep), 1).astype(z.dtype)
    n1 = jnp.sum(jnp.where(keep, t, 0)) / total
    n0 = jnp.sum(jnp.where(keep, 1 - t, 0)) / total
    terms = n0 * t * -jax.nn.log_sigmoid(z) + n1 * (1 - t) * -jax.nn.log_sigmoid(-z)
    bce = jnp.sum(jnp.where(keep, terms / total, 0))
    return weighted(hyper("ratio", 1 - ratio, z.dtype), bce) + weighted(part, rest)


def splitter_penalty(logits: ArrayLike) -> jax.Array:
    r"""Penalty that pushes probabilities away from 1/2, elementwise.

    Use it when you keep ``anyloss``'s probabilities away from one half.

    .. math:: \frac14 - \Bigl(p - \frac12\Bigr)^2 = \sigma(s)\,\sigma(-s)

    Shapes: logits [...] -> [...]

    Args:
      logits: one score per example.

    Returns:
      From 0 to a quarter, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: doheonhan/anyloss_extension, beside AnyLoss, Han et al. 2024,
      arXiv:2405.14745.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import splitter_penalty
    >>> splitter_penalty(jnp.float32(0))
    Array(0.25, dtype=float32)
    """
    z = numerics.promote_to_float32(logits)
    near = jnp.abs(z) < 1  # where the slope is small because the tail's parts cancel
    half = jnp.tanh(jnp.where(near, z, 0) / 2) / 2
    tail = jnp.abs(jnp.where(near, 1, z))
    return jnp.where(
        near, 0.25 - half * half, jnp.exp(-tail - 2 * jnp.log1p(jnp.exp(-tail)))
    )


def _positive(name, value, dtype):
    return hyper(name, value, dtype, lambda v: v > 0, "a number above 0")


def _one_minus(metric, counts, beta, eps, sqrt):
    tn, fp, fn, tp = counts
    n1, n0 = tp + fn, tn + fp
    n1, n0 = jax.lax.stop_gradient(n1), jax.lax.stop_gradient(n0)  # sums of labels
    if metric == "accuracy":
        total = n0 + n1
        return (fp + fn) / jnp.where(total == 0, 1, total)
    if metric == "fbeta":
        b2 = beta * beta
        wrong = b2 * fn + fp + eps
        ratio = wrong / (wrong + (1 + b2) * tp)
        return jnp.where(n1 > 0, ratio, jnp.where(jnp.isnan(ratio), ratio, 1))
    if metric == "balanced_accuracy":
        return (n0 * fn + n1 * fp + eps) / (2 * n1 * n0 + eps)
    total = n1 * n0 + eps
    if sqrt:
        x = tp * tn / total + eps
        return ((n0 * fn + fp * tp + eps) / total - eps) / (1 + jnp.sqrt(x))
    return (n0 * fn + fp * tp + eps) / total


def _one_hot(logits, labels, axis, where, mask):
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    y, keep = numerics.wide_labels(labels), z > -jnp.inf
    if mask is not None:
        kept = _mask(mask, z.shape[:-1], "mask")
        y = jnp.where(kept, y, 0) if y.shape == kept.shape else y
        z, keep = jnp.where(kept[..., None], z, 0), keep & kept[..., None]
    y, known = numerics.check_labels(y, z.shape[:-1], z.shape[-1])
    one = numerics.is_label(z, y).astype(z.dtype)
    return z, keep, jnp.where(known[..., None], one, jnp.nan)
