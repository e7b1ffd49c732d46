"""Multi-label losses: any number of labels at once, most of them absent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import as_binary, elementwise, hyper, per_class

__all__ = [
    "asymmetric_loss",
    "multilabel_soft_margin_loss",
    "sigmoid_focal_loss",
    "zlpr_loss",
]


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
    r"""Asymmetric loss (ASL) of a sigmoid: easy negatives count for little.

    Use it when easy absent labels should count for little.

    .. math:: \ell = -t (1-p)^{\gamma_+} \log p
        - (1-t)\, p_m^{\gamma_-} \log(1 - p_m), \quad p_m = \max(p - c, 0)

    The focusing factors are differentiated too. The released code clamps probabilities
    to 1e-8 inside the logarithms; we do not.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1; a number between mixes the two terms, a negative one is "no
        label" and costs NaN.
      gamma_pos: :math:`\gamma_+`, at least 0; the paper often has 0.
      gamma_neg: :math:`\gamma_-`, at least 0.
      clip: :math:`c`, in [0, 1): negatives less probable than this cost nothing.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the labels that take part; the others cost 0.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, where
      ``p - clip`` is above 0.01 or not positive; near 0 that difference loses digits.

    Source: Ridnik et al. 2021, arXiv:2009.14119.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import asymmetric_loss
    >>> asymmetric_loss(jnp.float32([0, 0]), jnp.array([1, 0]), clip=0.0)
    Array([0.3465736, 0.0433217], dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    gamma_pos = hyper("gamma_pos", gamma_pos, z.dtype, lambda g: g >= 0, "at least 0")
    gamma_neg = hyper("gamma_neg", gamma_neg, z.dtype, lambda g: g >= 0, "at least 0")
    in_range = lambda c: (c >= 0) & (c < 1)  # noqa: E731
    clip = hyper("clip", clip, z.dtype, in_range, "in [0, 1)")
    positive = _faded(z, gamma_pos) * jax.nn.softplus(-z)
    shifted = numerics.sigmoid(z) - clip
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
    losses = _mixed(t, positive, negative)
    return elementwise(losses, shown, bad, axis=axis, like=logits)


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

    Use it when nearly all labels are absent, as in object detection.

    .. math:: \ell = -\alpha_t (1 - p_t)^\gamma \log p_t

    with :math:`p_t, \alpha_t` equal to :math:`p, \alpha` for a positive and to
    :math:`1 - p, 1 - \alpha` for a negative label.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1; a number between mixes the two terms, a negative one is "no
        label" and costs NaN.
      alpha: weight of positives, in [0, 1], or None for no weights.
      gamma: at least 0.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the labels that take part; the others cost 0.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, value and gradient.

    Source: Lin et al. 2017, arXiv:1708.02002.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sigmoid_focal_loss
    >>> sigmoid_focal_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array([0.0433217, 0.1299651], dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    gamma = hyper("gamma", gamma, z.dtype, lambda g: g >= 0, "at least 0")
    up, down = jax.nn.softplus(z), jax.nn.softplus(-z)
    positive, negative = _faded(z, gamma) * down, _faded(-z, gamma) * up
    if alpha is not None:
        in_range = lambda a: (a >= 0) & (a <= 1)  # noqa: E731
        alpha = hyper("alpha", alpha, z.dtype, in_range, "in [0, 1]")
        positive, negative = alpha * positive, (1 - alpha) * negative
    losses = _mixed(t, positive, negative)
    return elementwise(losses, shown, bad, axis=axis, like=logits)


def multilabel_soft_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    class_weights: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean over the labels of their binary cross-entropies.

    Use it when you want the mean over labels that PyTorch has, with class weights.

    .. math:: \ell = -\frac1C \sum_c w_c
        \bigl(t_c \log \sigma(z_c) + (1-t_c) \log \sigma(-z_c)\bigr)

    ``weighted_binary_cross_entropy`` has weights for positives alone,
    ``sigmoid_cross_entropy`` one number per label.

    Shapes: logits [..., C], labels [..., C], class_weights [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or probabilities; negative for "no label", which costs NaN.
      class_weights: :math:`w`, one per class, at least 0; all 1 without them. They do
        not change what the sum is divided by.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part; C counts them.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every label is
      hidden.

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``), or
        ``class_weights`` negative or not one per class.

    Numerics: relative error below 1e-5, value and gradient.

    Source: ``torch.nn.MultiLabelSoftMarginLoss``.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multilabel_soft_margin_loss
    >>> multilabel_soft_margin_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array(0.6931472, dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    if class_weights is None:
        return mean_bce(z, t, shown, bad, 1)
    w = per_class("class_weights", class_weights, z, lambda w: w >= 0, "at least 0")
    w = jnp.broadcast_to(w, z.shape)
    return mean_bce(z, t, shown, bad, w, w)


def zlpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Zero-bounded log-sum-exp pairwise rank loss: labels above 0, the others below.

    Use it when labels should be ranked above 0 and the others below, however many.

    .. math:: \ell = \log\Bigl(1 + \sum_{c \in P} e^{-z_c}\Bigr)
        + \log\Bigl(1 + \sum_{c \notin P} e^{z_c}\Bigr)

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``. 0 is the threshold.
      labels: 0 or 1, or negative for "no label", which costs NaN.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every label is
      hidden.

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: Su et al. 2022, arXiv:2208.02955.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import zlpr_loss
    >>> zlpr_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array(1.3862944, dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    present = t > 0.5
    missed = numerics.logsumexp(-z, where=shown & present)
    false = numerics.logsumexp(z, where=shown & ~present)
    loss = jax.nn.softplus(missed) + jax.nn.softplus(false)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)


def _faded(z, gamma):
    """``(1 - sigmoid(z)) ** gamma``; flat where it is 1, beside the largest costs."""
    return jnp.exp(-gamma * jnp.where(z < -1e3, 0, jax.nn.softplus(z)))


def _mixed(t, positive, negative):
    return t * positive + (1 - t) * negative


def mean_bce(z, t, shown, bad, weights, negative_weights=1):
    """Mean over the labels shown of a cross-entropy with weighted positives."""
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    positive = weights * (t * (jax.nn.softplus(-z) / count))
    cost = positive + negative_weights * ((1 - t) * (jax.nn.softplus(z) / count))
    loss = jnp.sum(jnp.where(shown, cost, 0), -1)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)
