"""Penalties of what a network holds before its logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["residual_std_loss"]


def residual_std_loss(
    residual: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    target_mask: ArrayLike | None = None,
    epsilon: ArrayLike = 1e-5,
) -> jax.Array:
    r"""How unequal the deviations of hidden vectors are: one number for a batch.

    Use it when fine-tuning by ``models.LnRemovalSchedule``, with a weight of 0.1: the
    last norm can be taken away once it divides all tokens by nearly the same number.

    .. math:: \frac1N \sum_i (s_i - \bar s)^2, \quad s_i = \sqrt{\mathrm{var}(h_i) +
        \epsilon}, \quad \bar s = \frac{1}{|T|} \sum_{i \in T} s_i

    No gradient goes through the mean.

    Shapes: residual [..., D], mask [...] -> []

    Args:
      residual: h, the stream before the last norm.
      mask: bool, the tokens that count.
      target_mask: bool, those of them that make the mean, T; by default all. The first
        position of a text, whose deviation is often far larger, should not.
      epsilon: of the norm.

    Returns:
      In the square of the stream's unit, float32 (float64 for float64); 0 without
      tokens.

    Raises:
      TypeError: ``residual`` is not floating point, or a mask not bool.
      ValueError: ``residual`` is a scalar, the shapes disagree, or ``epsilon`` is
        negative.

    Numerics: relative error below 1e-5 of the squared mean deviation, and below 1e-3
      of the gradient, as deviations that are nearly equal cancel.

    Source: Transformers don't need LayerNorm at inference time, arXiv:2507.02559.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import residual_std_loss
    >>> stream = jnp.float32([[1, -1], [3, -3]])  # deviations of 1 and 3
    >>> print(f"{residual_std_loss(stream):.4f}")
    1.0000
    """
    h = numerics.promote_to_float32(residual, "residual")
    if not h.ndim:
        raise ValueError("residual is a scalar, expected [..., D]")
    epsilon = hyper("epsilon", epsilon, h.dtype, lambda e: e >= 0, "at least 0")
    keep = numerics.check_mask(mask, h.shape[:-1])
    target = numerics.check_mask(target_mask, h.shape[:-1], "target_mask") & keep
    std = _deviation(jnp.where(keep[..., None], h, 0), epsilon)
    mean = jax.lax.stop_gradient(numerics.masked_mean(std, target))
    return numerics.masked_mean(jnp.square(std - mean), keep)


@jax.custom_jvp
def _deviation(h, epsilon):
    """Divided by the largest first, as squares overflow from 1e19 on."""
    centered = _centered(h)
    unit = jnp.maximum(jnp.max(jnp.abs(centered), -1, initial=0), 1)
    variance = jnp.mean(jnp.square(centered / unit[..., None]), -1)
    return unit * jnp.sqrt(variance + jnp.maximum(epsilon / unit / unit, 1e-30))


@_deviation.defjvp
def _deviation_jvp(primals, tangents):
    """Of the plain chain the slope in h / unit is infinite at 1e30."""
    (h, epsilon), (dh, change) = primals, tangents
    std = _deviation(h, epsilon)
    slope = jnp.mean(_centered(h) / std[..., None] * dh, -1)
    return std, slope + change / (2 * std)


def _centered(h):
    h = h - h[..., :1]  # equal numbers leave nothing, however large
    return h - jnp.mean(h, -1, keepdims=True)
