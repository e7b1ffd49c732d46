"""Multi-label losses: any number of labels at once, most of them absent."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked

__all__ = [
    "as_binary",
    "asymmetric_loss",
    "mean_bce",
    "multilabel_soft_margin",
    "sigmoid_focal_loss",
    "zlpr_loss",
]

NOT_LOSSES = ("as_binary", "mean_bce")


def asymmetric_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_pos: ArrayLike = 1.0,
    gamma_neg: ArrayLike = 4.0,
    clip: ArrayLike = 0.05,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Asymmetric loss, one number per label: easy negatives count for little.

    .. math:: \ell = -t (1-p)^{\gamma_+} \log p
        - (1-t)\, p_m^{\gamma_-} \log(1 - p_m), \quad p_m = \max(p - c, 0)

    The focusing factors are differentiated too. The released code clamps probabilities
    to 1e-8 inside the logarithms; we do not.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1; a number between mixes the two terms.
      gamma_pos: :math:`\gamma_+`, at least 0; the paper often has 0.
      gamma_neg: :math:`\gamma_-`, at least 0.
      clip: :math:`c`, in [0, 1): negatives less probable than this cost nothing.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the labels that take part; the others cost 0.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, except within rounding of ``p = clip``.

    Source: Ridnik et al. 2021, arXiv:2009.14119.

    >>> asymmetric_loss(jnp.float32([0, 0]), jnp.array([1, 0]), clip=0.0)
    Array([0.3465736, 0.0433217], dtype=float32)
    """
    checked("gamma_pos", gamma_pos, lambda g: g >= 0, "at least 0")
    checked("gamma_neg", gamma_neg, lambda g: g >= 0, "at least 0")
    checked("clip", clip, lambda c: (c >= 0) & (c < 1), "in [0, 1)")
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    positive = _faded(z, gamma_pos) * jax.nn.softplus(-z)
    clip = jnp.asarray(clip, z.dtype)
    shifted = jax.nn.sigmoid(z) - clip
    live = shifted > 0
    clipped = live & (clip > 0)
    power = jnp.where(clipped, shifted, 1) ** gamma_neg
    power = jnp.where(clipped, power, _faded(-z, gamma_neg))
    # log(1 - p_m), from whichever end is near.
    low = live & (shifted < 0.5)
    near_one = -jnp.log1p(-jnp.where(low, shifted, 0))
    near_zero = -jnp.logaddexp(jnp.log(clip), jnp.where(low, 0, -jax.nn.softplus(z)))
    cost = jnp.where(low, near_one, near_zero)
    negative = jnp.where(live, power * jnp.where(live, cost, 0), 0)
    return _elementwise(_mixed(t, positive, negative), shown, bad, axis)


def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike | None = 0.25,
    gamma: ArrayLike = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal loss of a sigmoid, one number per label.

    .. math:: \ell = -\alpha_t (1 - p_t)^\gamma \log p_t

    with :math:`p_t, \alpha_t` equal to :math:`p, \alpha` for a positive and to
    :math:`1 - p, 1 - \alpha` for a negative label.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1; a number between mixes the two terms.
      alpha: weight of positives, in [0, 1], or None for no weights.
      gamma: at least 0.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the labels that take part; the others cost 0.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, value and gradient.

    Source: Lin et al. 2017, arXiv:1708.02002.

    >>> sigmoid_focal_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array([0.0433217, 0.1299651], dtype=float32)
    """
    checked("gamma", gamma, lambda g: g >= 0, "at least 0")
    if alpha is not None:
        checked("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "in [0, 1]")
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    up, down = jax.nn.softplus(z), jax.nn.softplus(-z)
    positive, negative = _faded(z, gamma) * down, _faded(-z, gamma) * up
    if alpha is not None:
        positive, negative = alpha * positive, (1 - alpha) * negative
    return _elementwise(_mixed(t, positive, negative), shown, bad, axis)


def multilabel_soft_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean over the labels of their binary cross-entropies.

    .. math:: \ell = -\frac1C \sum_c t_c \log \sigma(z_c) + (1-t_c) \log \sigma(-z_c)

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or probabilities.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part; C counts them.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every label is
      hidden.

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: ``torch.nn.MultiLabelSoftMarginLoss``.

    >>> multilabel_soft_margin(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array(0.6931472, dtype=float32)
    """
    return mean_bce(*as_binary(logits, labels, axis, where), 1)


def zlpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Zero-bounded log-sum-exp pairwise rank loss: labels above 0, the others below.

    .. math:: \ell = \log\Bigl(1 + \sum_{c \in P} e^{-z_c}\Bigr)
        + \log\Bigl(1 + \sum_{c \notin P} e^{z_c}\Bigr)

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``. 0 is the threshold.
      labels: 0 or 1.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every label is
      hidden.

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: Su et al. 2022, arXiv:2208.02955.

    >>> zlpr_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array(1.3862944, dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    present = t > 0.5
    missed = numerics.logsumexp(-z, where=shown & present)
    false = numerics.logsumexp(z, where=shown & ~present)
    loss = jax.nn.softplus(missed) + jax.nn.softplus(false)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)


def as_binary(logits, labels, axis, where):
    """Logits (0 where hidden), labels in their dtype, labels shown, labels refused."""
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    t = jnp.asarray(labels)
    if t.shape != jnp.shape(logits):
        raise ValueError(f"labels has shape {t.shape}, expected {jnp.shape(logits)}")
    bad = ~((t >= 0) & (t <= 1))
    if where is not None:
        bad = bad & jnp.broadcast_to(jnp.asarray(where), bad.shape)
    if not isinstance(bad, jax.core.Tracer) and bad.any():
        raise ValueError(f"labels outside [0, 1]: {t[bad][:5]}")
    t, bad = jnp.moveaxis(t, axis, -1), jnp.moveaxis(bad, axis, -1)
    shown = z > -jnp.inf
    t = jnp.where(shown & ~bad, t, 0).astype(z.dtype)
    return jnp.where(shown, z, 0), t, shown, bad & shown


def _faded(z, gamma):
    """``(1 - sigmoid(z)) ** gamma``; flat where it is 1, beside the largest costs."""
    return jnp.exp(-gamma * jnp.where(z < -1e3, 0, jax.nn.softplus(z)))


def _mixed(t, positive, negative):
    return t * positive + (1 - t) * negative


def _elementwise(loss, shown, bad, axis):
    loss = jnp.where(bad, jnp.nan, jnp.where(shown, loss, 0))
    return jnp.moveaxis(loss, -1, axis)


def mean_bce(z, t, shown, bad, weights):
    """Mean over the labels shown of a cross-entropy with weighted positives."""
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    positive = weights * (t * (jax.nn.softplus(-z) / count))
    cost = positive + (1 - t) * (jax.nn.softplus(z) / count)
    loss = jnp.sum(jnp.where(shown, cost, 0), -1)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)


def _row(loss, kind, make, source, **facts):
    facts = dict(shift_invariant=False) | facts
    return rows.Row(loss, kind, make, source, **facts)


ROWS = (
    _row(
        asymmetric_loss,
        "elementwise",
        rows.binary_labels,
        "Ridnik et al. 2021, arXiv:2009.14119",
        golden="asymmetric_loss",
    ),
    _row(
        sigmoid_focal_loss,
        "elementwise",
        rows.binary_labels,
        "Lin et al. 2017, arXiv:1708.02002",
        golden="standard_losses",
    ),
    _row(
        multilabel_soft_margin,
        "example",
        rows.binary_labels,
        "torch.nn.MultiLabelSoftMarginLoss",
        convex=True,
        calibrated=True,
        cost="a sigmoid for each class, not one softmax for the row",
    ),
    _row(
        zlpr_loss,
        "example",
        rows.binary_labels,
        "Su et al. 2022, arXiv:2208.02955",
        convex=True,
        cost="two sums of exponentials, over present and absent labels",
    ),
)
