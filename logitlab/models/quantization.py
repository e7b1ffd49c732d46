"""Fake quantization of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["fake_quantize"]


def fake_quantize(
    x: ArrayLike,
    *,
    bits: int,
    symmetric: bool = True,
    channel_axis: int | None = None,
    step: ArrayLike | None = None,
) -> jax.Array:
    r"""Values on a uniform grid, with the gradient of the identity within its ends.

    .. math:: s (\mathrm{clip}(\mathrm{round}(x / s) + o, -2^{b-1}, 2^{b-1} - 1) - o)

    with the step s from the largest magnitude and o = 0, or, not symmetric, from the
    smallest and the largest value. The symmetric default never takes its lowest place,
    a loss where bits are few: :math:`s = 2 \max |x| / (2^b - 1)` takes them all.

    Args:
      x: weights or activations.
      bits: b, from 2 to 16.
      symmetric: whether 0 is the middle of the grid.
      channel_axis: an axis with a grid for each entry; by default one for all.
      step: s, positive, one or broadcastable to ``x``, instead.

    Returns:
      The dtype of ``x``, 16-bit types widened; the grid is a constant for the gradient.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``bits`` is out of range, or ``step`` is not positive.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.quantization import fake_quantize
    >>> print(fake_quantize(jnp.float32([-3, -1, 0.4, 3]), bits=2))
    [-3.  0.  0.  3.]
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits}, expected 2 to 16")
    x = numerics.promote_to_float32(x, "x")
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    axes = None
    if channel_axis is not None:
        axes = tuple(a for a in range(x.ndim) if a != channel_axis % x.ndim)
    fixed = jax.lax.stop_gradient(x)
    bottom = jnp.min(fixed, axes, keepdims=True)
    top = jnp.max(fixed, axes, keepdims=True)
    if step is not None:
        check_range("step", step, lambda s: s > 0, "positive")
        step = jax.lax.stop_gradient(jnp.asarray(step, x.dtype))
    elif symmetric:
        step = jnp.maximum(top, -bottom) / high
    else:
        step = (jnp.maximum(top, 0) - jnp.minimum(bottom, 0)) / (high - low)
    step = jnp.where(step > 0, step, 1)
    offset = 0 if symmetric else low - jnp.round(jnp.minimum(bottom, 0) / step)
    place = jnp.round(fixed / step) + offset
    inside = (place >= low) & (place <= high)
    value = step * (jnp.clip(place, low, high) - offset)
    return value + jnp.where(inside, x - fixed, 0)  # 0, with the slope of x
