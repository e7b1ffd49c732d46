"""Heads of which only some columns are made: what they take, and their products."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.heads.operands import check_float, wide

__all__ = ["integers", "matrix", "product_of_columns", "tokens"]


def tokens(hidden: ArrayLike) -> tuple[jax.Array, tuple[int, ...]]:
    """Features with one leading axis, and the leading axes they came with.

    Shapes: hidden [..., D] -> [N, D]
    """
    hidden = jnp.asarray(hidden)
    check_float(hidden, "hidden")
    if hidden.ndim < 1:
        raise ValueError(f"hidden has shape {hidden.shape}, expected (..., D)")
    batch = hidden.shape[:-1]
    return hidden.reshape(math.prod(batch), hidden.shape[-1]), batch


def matrix(array: ArrayLike, name: str, *shape: int | str) -> jax.Array:
    """A floating point ``array`` whose shape is checked; a letter is any size from 1.

    >>> matrix(jnp.ones((2, 3)), "kernel", 2, "V").shape
    (2, 3)
    """
    array = jnp.asarray(array)
    check_float(array, name)
    fits = len(array.shape) == len(shape) and all(
        have > 0 if isinstance(want, str) else have == want
        for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} has shape {array.shape}, expected ({expected})")
    return array


def integers(array: ArrayLike, name: str) -> jax.Array:
    """An integer ``array``."""
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} has dtype {array.dtype}, expected integers")
    return array


def product_of_columns(
    hidden: jax.Array,
    kernel: jax.Array,
    ids: jax.Array,
    bias: jax.Array | None,
    transposed: bool,
) -> jax.Array:
    """The scores of some columns, others for each token; no other is touched.

    Shapes: hidden [N, D], kernel [D, V], ids [N, L], bias [V] -> [N, L]
    """
    some = jnp.take(kernel, ids, axis=0 if transposed else 1, mode="clip")
    form = "nd,nld->nl" if transposed else "nd,dnl->nl"
    z = jnp.einsum(form, hidden, some, preferred_element_type=wide(hidden, kernel))
    return z if bias is None else z + bias.astype(z.dtype)[ids]
