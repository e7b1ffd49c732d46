"""Losses that are one minus a metric of the confusion matrix."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.rows import Row, binary_labels

__all__ = ["amplify", "anyloss", "soft_confusion"]

NOT_LOSSES = ("amplify", "soft_confusion")

_METRICS = ("accuracy", "fbeta", "balanced_accuracy", "gmean")


def amplify(probs: ArrayLike, *, scale: float = 73.0) -> jax.Array:
    r"""Pushes probabilities towards 0 and 1.

    .. math:: q = \sigma(L\,(p - 1/2))

    Shapes: probs [...] -> [...]

    Returns:
      Numbers between 0 and 1, float32 (float64 for float64 input).

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: ``scale`` is not positive.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745, with L = 73.

    >>> print(f"{amplify(0.6, scale=10.0):.4f}")
    0.7311
    """
    _check("scale", scale, lambda v: v > 0, "a number above 0")
    return jnp.exp(_log_sigmoid(scale * (numerics.promote(probs, "probs") - 0.5)))


def soft_confusion(
    probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    r"""Counts of a confusion matrix in which a decision may be fractional.

    .. math:: TP = \sum t q, \quad FN = \sum t (1 - q), \quad FP = \sum (1 - t) q,
        \quad TN = \sum (1 - t)(1 - q)

    Shapes: probs [...], labels [...], where [...] -> [], [], [], []

    Args:
      probs: q, the decisions.
      labels: 0 and 1.
      where: bool, the examples that are counted.

    Returns:
      ``(tn, fp, fn, tp)``, the order of scikit-learn, float32 (float64 for float64).

    Raises:
      TypeError: ``probs`` is not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or a label is neither 0 nor 1; under ``jit``, where
        values are unknown, such a label gives NaN.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745.

    >>> tn, fp, fn, tp = soft_confusion(jnp.float32([0.75, 0.25]), jnp.array([1, 1]))
    >>> fn, tp
    (Array(1., dtype=float32), Array(1., dtype=float32))
    """
    q = numerics.promote(probs, "probs")
    keep = _mask(where, q.shape, "where")
    t = _binary(labels, q, keep)
    q = jnp.where(keep, q, 0)
    return _counts(q, 1 - q, t, keep, tuple(range(q.ndim)))


def anyloss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str = "fbeta",
    beta: float = 1.0,
    scale: float | None = 73.0,
    eps: float = 1e-5,
    sqrt: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One minus a metric of the confusion matrix of a set of examples: one number.

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
      mask: bool, the examples that take part, of the shape of ``labels``.

    Returns:
      A scalar without unit, float32 (float64 for float64 logits), at most 1; with
      ``sqrt`` it may be as low as ``-eps``. Without examples: accuracy costs 0, the
      others what their formula says, 1.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: an unknown metric, a hyper-parameter or a label out of range, or wrong
        shapes; under ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80: the
      mistakes are summed, not one minus the hits.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745; the counts and eps as in
      doheonhan/anyloss_extension.

    >>> s, t = jnp.float32([2, -2]), jnp.array([1, 0])
    >>> print(anyloss(s, t, metric="accuracy", scale=None).round(4))
    0.1192
    """
    if metric not in _METRICS:
        raise ValueError(f"metric is {metric!r}, expected one of {_METRICS}")
    _check("beta", beta, lambda v: v > 0, "a number above 0")
    _check("eps", eps, lambda v: v > 0, "a number above 0")
    if scale is not None:
        _check("scale", scale, lambda v: v > 0, "a number above 0")
    if jnp.ndim(labels) == jnp.ndim(logits):
        z = numerics.promote(logits)
        keep = _mask(where, z.shape, "where", True) & _mask(mask, z.shape, "mask")
        keep = keep & (z > -jnp.inf)
        t = _binary(labels, z, keep)
        z = jnp.where(keep, z, 0)
        log_q, log_not_q = _log_sigmoid(z), _log_sigmoid(-z)
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
        log_q, log_not_q = _log_sigmoid(scale * beyond), _log_sigmoid(-scale * beyond)
    q = jnp.exp(log_q)
    not_q = _one_minus_exp(log_q) if log_not_q is None else jnp.exp(log_not_q)
    losses = _one_minus(metric, _counts(q, not_q, t, keep, axes), beta, eps, sqrt)
    if losses.ndim == 0:
        return losses
    used = keep.any(axes) | (not keep.size)
    return numerics.masked_mean(losses, used)


def _one_minus(metric, counts, beta, eps, sqrt):
    tn, fp, fn, tp = counts
    n1, n0 = tp + fn, tn + fp
    n1, n0 = jax.lax.stop_gradient(n1), jax.lax.stop_gradient(n0)  # sums of labels
    if metric == "accuracy":
        total = n0 + n1
        return jnp.where(total > 0, (fp + fn) / jnp.where(total > 0, total, 1), 0)
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


def _counts(q, not_q, t, keep, axes):
    terms = ((1 - t) * not_q, (1 - t) * q, t * not_q, t * q)
    return tuple(jnp.where(keep, term, 0).sum(axes) for term in terms)


def _one_minus_exp(x):
    """``1 - exp(x)`` for x <= 0; the slope of ``expm1`` itself rounds to 0 far down."""
    near = x > -0.69
    return jnp.where(near, -jnp.expm1(jnp.where(near, x, 0)), 1 - jnp.exp(x))


def _log_sigmoid(x):
    """Its exponential is a sigmoid whose slope does not round to 0."""
    return -jnp.logaddexp(0, -x)


def _binary(labels, z, keep):
    t = jnp.asarray(labels)
    if t.shape != z.shape:
        raise ValueError(f"labels has shape {t.shape}, expected {z.shape}")
    if jnp.issubdtype(t.dtype, jnp.floating):
        return jnp.where(keep, t, 0).astype(z.dtype)
    t = jnp.where(keep, t, 0).astype(jnp.int32)
    # 0 or NaN: the check of the labels, and nothing else.
    known = numerics.label_nll(jnp.zeros((*t.shape, 2), z.dtype), t) * 0
    return t.astype(z.dtype) + known


def _one_hot(logits, labels, axis, where, mask):
    z, y = numerics.class_axis_last(logits, axis=axis, where=where), jnp.asarray(labels)
    keep = z > -jnp.inf
    if mask is not None:
        kept = _mask(mask, z.shape[:-1], "mask")
        y = jnp.where(kept, y, 0) if y.shape == kept.shape else y
        z, keep = jnp.where(kept[..., None], z, 0), keep & kept[..., None]
    known = numerics.label_nll(jnp.zeros(z.shape, z.dtype), y) * 0
    iota = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    one = (iota == y.astype(jnp.int32)[..., None]).astype(z.dtype)
    return z, keep, one + known[..., None]


def _mask(mask, shape, name, broadcast=False):
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected bool")
    if broadcast:
        try:
            return jnp.broadcast_to(mask, shape)
        except ValueError:
            pass
    if mask.shape != shape:
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}")
    return mask


def _check(name, value, ok, expected):
    fine = ok(value)  # traced if the value is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"{name} is {value}, expected {expected}")


ROWS = (
    Row(
        anyloss,
        "batch",
        binary_labels,
        "AnyLoss, Han et al. 2024, arXiv:2405.14745",
        hyper={"scale": 10.0},
        golden="anyloss",
        shift_invariant=False,
        upper=1.0,
        shape=(6,),
    ),
)
