"""Returns and advantages of tokens, and the loss of the values that predict them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics.arguments import hyper
from logitlab.rl import _operands as operands

__all__ = ["clipped_value_loss"]


def clipped_value_loss(
    values: ArrayLike,
    old_values: ArrayLike,
    returns: ArrayLike,
    *,
    clip: ArrayLike = 0.2,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""PPO's loss of the value function, one value per token.

    Use it when you train PPO's value function.

    .. math:: \tfrac12 \max\bigl((V - R)^2,\;
        (\mathrm{clip}(V, V^{old} - c, V^{old} + c) - R)^2 \bigr)

    Shapes: values [..., T], old_values [..., T], returns [..., T],
      mask [..., T] -> [..., T]

    Args:
      values: predictions V.
      old_values: those when the tokens were sampled; no gradient.
      returns: R, as ``gae`` gives them; no gradient.
      clip: c, positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``values``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``clip`` is not positive.

    Numerics: relative error below 1e-5 of the squared error; no gradient where the
      clipped error is the larger one.

    Source: PPO, Schulman et al. 2017, arXiv:1707.06347; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import clipped_value_loss
    >>> clipped_value_loss(jnp.float32([2, 1]), jnp.zeros(2), jnp.float32([1, 1]))
    Array([0.5       , 0.32000002], dtype=float32)
    """
    v, keep = operands.tokens(values, mask, "values")
    clip = hyper("clip", clip, v.dtype, lambda c: c > 0, "positive")
    old = operands.constant(old_values, v, keep, "old_values")
    target = operands.constant(returns, v, keep, "returns")
    bounded = jnp.clip(jax.lax.stop_gradient(v), old - clip, old + clip) - target
    off = v - target
    # Errors are compared, not their squares, which may both be infinite.
    return jnp.where(jnp.abs(off) >= jnp.abs(bounded), off, bounded) ** 2 / 2
