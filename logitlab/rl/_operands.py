"""What policy-gradient functions are given: tokens, constants beside them, masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics


def tokens(
    array: ArrayLike, mask: ArrayLike | None, name: str
) -> tuple[jax.Array, jax.Array]:
    """Promoted numbers of tokens, 0 where the mask leaves them out, and what it keeps.

    Shapes: array [..., T], mask [..., T] -> [..., T], [..., T]

    Raises:
      TypeError: ``array``, called ``name``, is not floating point, ``mask`` not bool.
      ValueError: ``array`` has no axis, or ``mask`` has another shape.
    """
    x = numerics.promote_to_float32(array, name)
    if not x.ndim:
        raise ValueError(f"{name} has shape (), expected [..., T]")
    keep = numerics.check_mask(mask, x.shape)
    return jnp.where(keep, x, 0), keep


def constant(
    array: ArrayLike, like: jax.Array, keep: jax.Array, name: str
) -> jax.Array:
    """Another number for each token, without gradient, 0 where it is not kept.

    Raises:
      TypeError: ``array`` is not floating point.
      ValueError: it has not the shape of the tokens.
    """
    x = numerics.promote_to_float32(array, name)
    if x.shape != like.shape:
        raise ValueError(f"{name} has shape {x.shape}, expected {like.shape}")
    return jax.lax.stop_gradient(jnp.where(keep, x.astype(like.dtype), 0))


def per_sequence(
    array: ArrayLike, like: jax.Array, some: jax.Array, name: str = "advantages"
) -> jax.Array:
    """One number for each sequence, without gradient, 0 for those without ``some``.

    Raises:
      TypeError: ``array`` is not floating point.
      ValueError: it has not the shape of the tokens without their axis.
    """
    x = numerics.promote_to_float32(array, name)
    if x.shape != like.shape[:-1]:
        raise ValueError(f"{name} has shape {x.shape}, expected {like.shape[:-1]}")
    return jax.lax.stop_gradient(jnp.where(some, x.astype(like.dtype), 0))


def per_token(advantages: ArrayLike, like: jax.Array, keep: jax.Array) -> jax.Array:
    """Advantages of tokens, without gradient: their own, or those of their sequence.

    Raises:
      TypeError: ``advantages`` is not floating point.
      ValueError: their shape is neither that of the tokens nor that of the sequences.
    """
    x = numerics.promote_to_float32(advantages, "advantages")
    if x.shape not in (like.shape, like.shape[:-1]):
        raise ValueError(
            f"advantages has shape {x.shape}, expected {like.shape[:-1]} or "
            f"{like.shape}"
        )
    x = x if x.shape == like.shape else x[..., None]
    return jax.lax.stop_gradient(jnp.where(keep, x.astype(like.dtype), 0))


def counted(lengths: ArrayLike) -> jax.Array:
    """Counts as floating point numbers, promoted; integers become float32."""
    x = jnp.asarray(lengths)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)
    return numerics.promote_to_float32(x, "lengths")


def token_mean(x: jax.Array, keep: jax.Array) -> jax.Array:
    """Mean over the tokens kept, the others being 0; 0 without any."""
    count = jnp.maximum(keep.sum(-1, dtype=jnp.int32), 1)
    return jnp.sum(x, -1) / count.astype(x.dtype)
