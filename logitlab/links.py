"""Links: new logits whose softmax is another way to make probabilities of scores.

Every loss works with every link by composition:
``losses.cross_entropy(links.stablemax(logits), labels)``.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["stablemax"]


def stablemax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""StableMax: a softmax with polynomial instead of exponential tails.

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

    >>> jnp.exp(stablemax(jnp.float32([-1, 0, 3])))
    Array([0.5, 1. , 4. ], dtype=float32)
    """
    x = numerics.class_axis_last(logits, axis=axis, where=where)
    return jnp.moveaxis(_signed_log1p(x), -1, axis)


@jax.custom_jvp
def _signed_log1p(x):
    return jnp.copysign(jnp.log1p(jnp.abs(x)), x)


@_signed_log1p.defjvp
def _signed_log1p_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    # Left to itself, autodiff gives the slope 0 at 0, where it is 1 from both sides.
    return _signed_log1p(x), dx / jnp.where(x >= 0, 1 + x, 1 - x)
