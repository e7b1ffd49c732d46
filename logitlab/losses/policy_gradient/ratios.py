"""Ratios of a policy to the one that sampled, and PPO's surrogate of them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.labels import checked
from logitlab.losses.policy_gradient import operands
from logitlab.losses.rows import Row


def check_clips(eps_low: ArrayLike, eps_high: ArrayLike) -> None:
    """Refuses clip ranges that are not positive, unless they are traced."""
    checked("eps_low", eps_low, lambda e: e > 0, "positive")
    checked("eps_high", eps_high, lambda e: e > 0, "positive")


def log_ratio_of(
    logps: ArrayLike, old_logps: ArrayLike, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """Logarithms of the ratios of tokens, 0 where masked, and the tokens kept."""
    lp, keep = operands.tokens(logps, mask, "logps")
    return lp - operands.constant(old_logps, lp, keep, "old_logps"), keep


def clipped(
    log_ratio: jax.Array,
    a: jax.Array,
    eps_low: ArrayLike,
    eps_high: ArrayLike,
    delta: ArrayLike | None = None,
) -> jax.Array:
    """PPO's surrogate for log-ratios and advantages of their shape."""
    cap = jnp.inf if delta is None else delta
    gain = a > 0
    low = jnp.where(gain, 0, 1 - jnp.asarray(eps_low)).astype(a.dtype)
    high = 1 + jnp.asarray(eps_high)
    high = jnp.where(gain, jnp.minimum(cap, high), jnp.maximum(cap, high))
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    bounded = jnp.clip(ratio, low, high.astype(a.dtype))
    # A clipped ratio may be infinite: it must not even meet a slope of 0.
    free = weighted(-a, jnp.where(ratio == bounded, log_ratio, 0))
    return jnp.where(ratio == bounded, free, -a * bounded)


def weighted(weight: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """``weight * exp(log_ratio)``, in which a weight of 0 silences even ``inf``."""
    return weight * jnp.exp(jnp.where(weight == 0, 0, log_ratio))


def rollouts(key, shape, dtype):
    """Log-probabilities, those of an older policy, and advantages of sequences."""
    keys = jax.random.split(key, 3)
    logps = -jnp.abs(2 * jax.random.normal(keys[0], shape, dtype))
    old = logps + 0.5 * jax.random.normal(keys[1], shape, dtype)
    return logps, old, jax.random.normal(keys[2], shape[:-1], dtype)


def row(loss, kind, source, **facts) -> Row:
    """What is true of every surrogate."""
    facts = dict(make=rollouts, golden="policy_gradient_losses") | facts
    return Row(
        loss,
        kind,
        source=source,
        shift_invariant=False,
        lower=None,
        where=False,
        tokens=True,
        **facts,
    )
