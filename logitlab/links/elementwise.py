"""Links that look at one score at a time."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range


def stablemax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""StableMax: a softmax with polynomial instead of exponential tails.

    Use it to grok without weight decay: no margin rounds its loss to zero.

    .. math:: g(x) = \mathrm{sign}(x)\,\log(1 + |x|), \quad
        \mathrm{softmax}(g(x))_c = s(x_c) / \sum_j s(x_j), \quad s(x) = e^{g(x)}

    so :math:`s(x) = x + 1` from 0 on and :math:`1 / (1 - x)` below. Elementwise, and
    not shift-invariant: ``exp(stablemax(x))`` is :math:`s(x)` itself.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Logits in float32 (float64 for float64 input), ``-inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-6; slope exactly 1 at 0 from both sides. The
      original computes in float64 and adds 1e-30 to :math:`1 - x`, which changes no
      digit.

    Source: Prieto et al. 2025, arXiv:2501.04697.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import stablemax
    >>> jnp.exp(stablemax(jnp.float32([-1, 0, 3])))
    Array([0.5, 1. , 4. ], dtype=float32)
    """
    x = numerics.prepare_logits(logits, axis=axis, where=where)
    sign = jnp.where(x >= 0, 1.0, -1.0)  # not 0 at 0, where the slope would be too
    return jnp.moveaxis(sign * jnp.log1p(sign * x), -1, axis)


def spherical_softmax(
    logits: ArrayLike,
    *,
    eps: ArrayLike = 1e-6,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Spherical softmax: probabilities in proportion to squared scores.

    .. math:: g(x) = \log(x^2 + \epsilon), \quad
        \mathrm{softmax}(g(x))_c = (x_c^2 + \epsilon) / \sum_j (x_j^2 + \epsilon)

    Blind to the sign of a score; elementwise, and not shift-invariant.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      eps: positive. The paper names no value; 1e-6 is ours.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Logits in float32 (float64 for float64 input), ``-inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, ``where`` does not broadcast, or ``eps`` is
        not positive.

    Numerics: relative error of the probabilities below 1e-5; squares never overflow.

    Source: de Brebisson and Vincent 2016, arXiv:1511.05042.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import spherical_softmax
    >>> jnp.exp(spherical_softmax(jnp.float32([-2, 0, 2]), eps=1.0)).round(4)
    Array([5., 1., 5.], dtype=float32)
    """
    check_range("eps", eps, lambda e: e > 0, "a positive number")
    x = numerics.prepare_logits(logits, axis=axis, where=where)
    visible, x = x > -jnp.inf, jnp.where(x > -jnp.inf, x, 0)
    eps = jnp.asarray(eps, x.dtype)
    far = jnp.abs(x) > 1
    outside, inside = jnp.where(far, jnp.abs(x), 1), jnp.where(far, 0, x)
    ratio = jnp.sqrt(eps) / outside
    tail = 2 * jnp.log(outside) + jnp.log1p(ratio * ratio)
    g = jnp.where(far, tail, jnp.log(inside * inside + eps))
    return jnp.moveaxis(jnp.where(visible, g, -jnp.inf), -1, axis)


def taylor_softmax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Taylor softmax: the exponential cut after its square.

    .. math:: g(x) = \log(1 + x + x^2 / 2), \quad
        \mathrm{softmax}(g(x))_c = (1 + x_c + x_c^2 / 2) / \sum_j (1 + x_j + x_j^2 / 2)

    Always positive, but below -1 a smaller score is *more* probable. Elementwise, and
    not shift-invariant: ``exp(taylor_softmax(x))`` is the polynomial itself.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis; no class looks at another, so it only checks the argument.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Logits in float32 (float64 for float64 input), ``-inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error of the probabilities below 1e-5; squares never overflow.

    Source: de Brebisson and Vincent 2016, arXiv:1511.05042.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import taylor_softmax
    >>> jnp.exp(taylor_softmax(jnp.float32([-1, 0, 2])))
    Array([0.5, 1. , 5. ], dtype=float32)
    """
    x = numerics.prepare_logits(logits, axis=axis, where=where)
    visible, x = x > -jnp.inf, jnp.where(x > -jnp.inf, x, 0)
    far = jnp.abs(x) > 1
    outside, inside = jnp.where(far, x, 2), jnp.where(far, 0, x)
    ratio = 1 / outside
    tail = 2 * jnp.log(jnp.abs(outside)) + jnp.log1p(2 * ratio * (1 + ratio))
    near = jnp.log1p(inside * (1 + inside / 2))
    g = jnp.where(far, tail - math.log(2), near)
    return jnp.moveaxis(jnp.where(visible, g, -jnp.inf), -1, axis)
