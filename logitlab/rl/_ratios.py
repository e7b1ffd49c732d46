"""Ratios of a policy to the one that sampled, and PPO's surrogate of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range
from logitlab.rl import _operands as operands


def check_clips(clip_low: ArrayLike, clip_high: ArrayLike) -> None:
    """Refuses clip ranges that are not positive, unless they are traced."""
    check_range("clip_low", clip_low, lambda e: e > 0, "positive")
    check_range("clip_high", clip_high, lambda e: e > 0, "positive")


def log_ratio_of(
    logps: ArrayLike, old_logps: ArrayLike, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """Logarithms of the ratios of tokens, 0 where masked, and the tokens kept."""
    lp, keep = operands.tokens(logps, mask, "logps")
    return lp - operands.constant(old_logps, lp, keep, "old_logps"), keep


def clipped(
    log_ratio: jax.Array,
    a: jax.Array,
    clip_low: ArrayLike,
    clip_high: ArrayLike,
    delta: ArrayLike | None = None,
) -> jax.Array:
    """PPO's surrogate for log-ratios and advantages of their shape."""
    cap = jnp.inf if delta is None else delta
    gain = a > 0
    low = jnp.where(gain, 0, 1 - jnp.asarray(clip_low, a.dtype))
    high = 1 + jnp.asarray(clip_high, a.dtype)
    cap = jnp.asarray(cap, a.dtype)
    high = jnp.where(gain, jnp.minimum(cap, high), jnp.maximum(cap, high))
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    # Not by equality with what is clipped, which a compiler may compute from another
    # rounding. A clipped ratio may be infinite: it must not even meet a slope of 0.
    free = (ratio >= low) & (ratio <= high)
    within = weighted(-a, jnp.where(free, log_ratio, 0))
    return jnp.where(free, within, -a * jnp.clip(ratio, low, high))


def weighted(weight: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """``weight * exp(log_ratio)``, in which a weight of 0 silences even ``inf``."""
    return weight * jnp.exp(jnp.where(weight == 0, 0, log_ratio))
