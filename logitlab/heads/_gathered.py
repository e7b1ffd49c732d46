"""Argument checks and products of heads that gather only some columns."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads._operands import check_float, wide

__all__ = ["matrix", "product_of_columns", "tokens"]


def tokens(hidden: ArrayLike) -> tuple[jax.Array, tuple[int, ...]]:
    """Features flattened to [N, D], and their original leading axes.

    Shapes: hidden [..., D] -> [N, D]
    """
    numerics.check_is_array(hidden, "hidden")
    hidden = jnp.asarray(hidden)
    check_float(hidden, "hidden")
    if hidden.ndim < 1:
        raise ValueError(f"hidden has shape {hidden.shape}, expected (..., D)")
    batch = hidden.shape[:-1]
    return hidden.reshape(math.prod(batch), hidden.shape[-1]), batch


def matrix(array: ArrayLike, name: str, *shape: int | str) -> jax.Array:
    """A floating point ``array`` whose shape is checked; a letter is any size from 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads._gathered import matrix
    >>> matrix(jnp.ones((2, 3)), "kernel", 2, "V").shape
    (2, 3)
    """
    numerics.check_is_array(array, name)
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


def product_of_columns(
    hidden: jax.Array,
    kernel: jax.Array,
    ids: jax.Array,
    bias: jax.Array | None,
    transposed: bool,
) -> jax.Array:
    """Scores of the columns ``ids``, which differ between tokens; reads no others.

    Shapes: hidden [N, D], kernel [D, V], ids [N, L], bias [V] -> [N, L]
    """
    some = jnp.take(kernel, ids, axis=0 if transposed else 1, mode="clip")
    form = "nd,nld->nl" if transposed else "nd,dnl->nl"
    z = jnp.einsum(form, hidden, some, preferred_element_type=wide(hidden, kernel))
    return z if bias is None else z + bias.astype(z.dtype)[ids]
