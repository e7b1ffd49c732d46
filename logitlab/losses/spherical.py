"""Losses of the spherical family: functions of sum(z), sum(z^2) and the label's score.

A linear head can therefore be trained at a cost that does not grow with the classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import links, numerics
from logitlab.numerics.arguments import hyper, one_hot_mask

__all__ = [
    "spherical_mse_loss",
    "spherical_softmax_loss",
    "taylor_softmax_loss",
    "spherical_z_loss",
]


def spherical_z_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    a: ArrayLike = 1.0,
    b: ArrayLike = 0.0,
    eps: ArrayLike = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Z-loss: a softplus of the label's standardised score.

    Use it when the number of classes is huge and the head is updated in factors.

    .. math:: \ell = \tfrac{1}{a} \log(1 + e^{a (b - \zeta)}), \quad
        \zeta = \frac{z_y - \mu}{\sigma + \epsilon}

    with mean and population deviation of the scores. Invariant to their shift and
    scale; for two classes :math:`\zeta = \pm 1`, so that nothing is learned.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      a: positive; larger is closer to a hinge.
      b: the score to reach; larger keeps pushing labels that rank high already.
      eps: at least 0, added to the deviation.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss, float32 (float64 for float64 logits). Equal scores have
      :math:`\zeta = 0` and no gradient; 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``a`` not
        positive or ``eps`` negative.

    Numerics: relative error below 1e-5, value and gradient; scores are centred and
      scaled before they are squared.

    Source: de Brebisson and Vincent 2016, arXiv:1604.08859.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import spherical_z_loss
    >>> spherical_z_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.2576089, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    a = hyper("a", a, z.dtype, lambda a: a > 0, "positive")
    b = hyper("b", b, z.dtype)
    eps = hyper("eps", eps, z.dtype, lambda e: e >= 0, "at least 0")
    is_label, known = one_hot_mask(z, labels)
    visible = z > -jnp.inf
    count = jnp.maximum(jnp.sum(visible, -1, keepdims=True, dtype=z.dtype), 1)
    zeta = _standardized(z, visible, count, eps)
    zeta = jnp.sum(jnp.where(is_label, zeta, 0), -1)
    loss = jax.nn.softplus(a * (b - zeta)) / a
    hidden = jnp.any(is_label & ~visible, -1)
    loss = jnp.where(hidden, jnp.where(jnp.any(visible, -1), jnp.inf, 0), loss)
    return jnp.where(known, loss, jnp.nan)


def _standardized(z, visible, count, eps):
    """Scores less their mean, over their deviation."""
    # Scaled, because the squares of 1e30 overflow. Neither the offset nor the scale
    # changes the result, so they need no gradient.
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    part = jnp.where(visible, z - jnp.where(top == -jnp.inf, 0, top), 0)
    size = -jnp.min(jax.lax.stop_gradient(part), -1, keepdims=True)
    size = jnp.maximum(size, jnp.finfo(z).tiny / jnp.finfo(z).eps)
    w = part / size
    centred = jnp.where(visible, w - jnp.sum(w, -1, keepdims=True) / count, 0)
    variance = jnp.sum(centred * centred, -1, keepdims=True) / count
    spread = variance > 0
    deviation = jnp.sqrt(jnp.where(spread, variance, 1)) + eps / size
    return jnp.where(spread, centred / deviation, 0)


def spherical_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1e-6,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log loss of the spherical softmax, ``links.spherical_softmax``.

    Use it when probabilities grow with the square of a score.

    .. math:: \ell = -\log \frac{z_y^2 + \epsilon}{\sum_c (z_c^2 + \epsilon)}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores, whose sign does not matter; ``-inf`` is the same as
        ``where=False``.
      labels: ints in ``[0, C)``.
      eps: positive. The paper names no value; 1e-6 is ours.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``eps`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for scores up to 1e9.

    Source: de Brebisson and Vincent 2016, arXiv:1511.05042.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import spherical_softmax_loss
    >>> spherical_softmax_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.22314389, dtype=float32)
    """
    dtype = numerics.promote_to_float32(logits).dtype
    eps = hyper("eps", eps, dtype, lambda e: e > 0, "positive")
    g = links.spherical_softmax(logits, eps=eps, axis=axis, where=where)
    return numerics.label_nll(g, labels, axis=axis)


def taylor_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log loss of the Taylor softmax, ``links.taylor_softmax``.

    Use it when you compare the Taylor softmax with the exponential one.

    .. math:: \ell = -\log \frac{1 + z_y + z_y^2 / 2}{\sum_c (1 + z_c + z_c^2 / 2)}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for scores up to 1e9.

    Source: de Brebisson and Vincent 2016, arXiv:1511.05042.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import taylor_softmax_loss
    >>> taylor_softmax_loss(jnp.float32([2, 1, 0]), 0)
    Array(0.53062826, dtype=float32)
    """
    g = links.taylor_softmax(logits, axis=axis, where=where)
    return numerics.label_nll(g, labels, axis=axis)


def spherical_mse_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared error between the scores themselves and the one-hot label.

    Use it when scores themselves should be probabilities, fitted by squared error.

    .. math:: \ell = \sum_c z_c^2 - 2 z_y + 1

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient; a sum of squares, without
      the formula's cancellation.

    Source: de Brebisson and Vincent 2016, arXiv:1511.05042.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import spherical_mse_loss
    >>> spherical_mse_loss(jnp.float32([2, 1, 0]), 0)
    Array(2., dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    is_label, known = one_hot_mask(z, labels)
    visible = z > -jnp.inf
    off = jnp.where(visible, z, 0) - (is_label & visible).astype(z.dtype)
    hidden = jnp.any(is_label & ~visible, -1) & jnp.any(visible, -1)
    loss = jnp.where(hidden, jnp.inf, 0) + jnp.sum(off * off, -1)
    return jnp.where(known, loss, jnp.nan)
