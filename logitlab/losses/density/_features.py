"""Rows of features: the ones a mask keeps, noise on them, and Jacobians of a model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_same_shape, per_row

Model = Callable[[jax.Array], jax.Array]


def kept_rows(
    x: ArrayLike, mask: ArrayLike | None, name: str = "x"
) -> tuple[jax.Array, jax.Array]:
    """Promoted rows [..., D], 0 where the mask leaves them out, and the mask [...].

    Raises:
      ValueError: ``x`` has no axis of features.
    """
    x = numerics.promote_to_float32(x, name)
    if x.ndim == 0:
        raise ValueError(f"{name} has shape (), expected (..., D)")
    keep = numerics.check_mask(mask, x.shape[:-1])
    return (x if mask is None else jnp.where(keep[..., None], x, 0)), keep


def rows_like(
    name: str, array: ArrayLike, other: str, x: jax.Array, mask: ArrayLike | None
) -> jax.Array:
    """Another array of the shape, dtype and mask of rows ``x``, called ``other``."""
    check_same_shape(name, array, other, x.shape)
    array = numerics.promote_to_float32(array, name).astype(x.dtype)
    return array if mask is None else jnp.where(jnp.asarray(mask)[..., None], array, 0)


def noisy_values(
    name: str,
    model: Model | ArrayLike,
    x: ArrayLike,
    noise: ArrayLike,
    sigma: ArrayLike,
    mask: ArrayLike | None,
    x_name: str = "x",
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What a model says of ``x + sigma * noise``: values, rows, noise, sigma [..., 1].

    A model may be given by its values, which then decide the dtype.
    """
    lead = x if callable(model) else model
    dtype = numerics.promote_to_float32(lead, x_name if lead is x else name).dtype
    rows, _ = kept_rows(x, mask, x_name)
    rows = rows.astype(dtype)
    noise = rows_like("noise", noise, x_name, rows, mask)
    sigma = per_row("sigma", sigma, rows, lambda s: s > 0, "positive")
    if callable(model):
        model = model(rows + sigma * noise)
        name = f"the result of {name}"
    return rows_like(name, model, x_name, rows, mask), rows, noise, sigma


def checked(model: Model, name: str, x: jax.Array) -> Model:
    """The model, whose results are of the rows' shape and dtype."""
    if not callable(model):
        raise TypeError(f"{name} is {type(model).__name__}, expected a function")
    return lambda x: rows_like(f"the result of {name}", model(x), "x", x, None)


def jacobian_rows(
    model: Model, x: jax.Array, terms: Callable[[jax.Array, jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Values [..., D] of a model, and a sum [...] over the entries of its Jacobian.

    A column, the derivatives in one feature, takes one forward-mode product; rows do
    not act on each other. ``terms`` makes what is summed of it and its unit vector.
    """

    def column(unit):
        values, moved = jax.jvp(model, (x,), (jnp.zeros_like(x) + unit,))
        return values, terms(moved, unit)

    units = jnp.eye(x.shape[-1], dtype=x.dtype)
    units = units.reshape(-1, *(1,) * (x.ndim - 1), x.shape[-1])
    values, entries = jax.vmap(column, out_axes=(None, 0))(units)
    return values, entries.sum(0).sum(-1)  # features may lie on several devices
