"""Elementwise terms of divergences, by the log-ratio of two probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from logitlab.numerics._special import small_exp_excess, small_expm1


def terms(p: jax.Array, q: jax.Array, u: jax.Array) -> jax.Array:
    """``p (exp(u) - 1 - u)`` of numbers p and q and the log of q / p.

    Shapes: p [...], q [...], u [...] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import terms
    >>> print(f"{terms(jnp.float32(1), jnp.float32(1.001), jnp.log1p(1e-3)):.4e}")
    4.9967e-07
    """
    near = jnp.abs(u) < 1
    close = p * small_exp_excess(jnp.where(near, u, 0))
    far = jnp.where(p > 0, p * jnp.where(near, 0, u), 0)
    return jnp.where(near, close, q - p - far)


def rise(p: jax.Array, q: jax.Array, u: jax.Array) -> jax.Array:
    """``q - p`` of numbers p and q and the log of q / p, which has more digits.

    Shapes: p [...], q [...], u [...] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import rise
    >>> rise(jnp.float32(1), jnp.float32(1), jnp.float32(1e-9))
    Array(1.e-09, dtype=float32)
    """
    near = jnp.abs(u) < 1
    return jnp.where(near, p * small_expm1(jnp.where(near, u, 0)), q - p)
