"""Vectors brought to a size whose squares fit, or to unit length."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def power_of_two(x: jax.Array, axis: int = -1) -> jax.Array:
    """Of each row's size, so that its squares fit; dividing by it changes no digit.

    A constant to gradients; 1 for a row of zeros or of NaNs.
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis, keepdims=True, initial=0))
    _, exponent = jnp.frexp(jnp.where(size > 0, size, 1))
    limits = jnp.finfo(x.dtype)
    exponent = jnp.clip(exponent, limits.minexp + 26, limits.maxexp - 8)
    return jnp.ldexp(jnp.ones_like(size), exponent)


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Vectors of length 1; those of zeros stay, with zero gradient."""
    x = x / power_of_two(x, axis)
    square = jnp.sum(x * x, axis, keepdims=True)
    zero = square == 0
    return jnp.where(zero, 0, x) / jnp.sqrt(jnp.where(zero, 1, square))


def length(x: jax.Array, axis: int = -1) -> jax.Array:
    """Euclidean lengths of vectors; zeros have zero gradient."""
    scale = power_of_two(x, axis)
    square = jnp.sum((x / scale) ** 2, axis, keepdims=True)
    zero = square == 0
    root = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
    return jnp.squeeze(scale * root, axis)
