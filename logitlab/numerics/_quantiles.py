"""Linear quantiles of what a mask keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def kept_quantile(
    x: jax.Array, keep: jax.Array, numerator: jax.Array, denominator: int = 1
) -> jax.Array:
    """Quantiles ``numerator / denominator`` of the kept numbers, ``inf`` without any.

    Between two numbers they are interpolated. With integers, a quantile that is one of
    the numbers is exactly this number.

    Shapes: x [...], keep [...], numerator [Q] -> [Q]
    """
    x = jnp.sort(jnp.where(keep, x, jnp.inf), axis=None)
    x = jnp.append(x, jnp.inf)  # for none at all
    last = jnp.maximum(jnp.sum(keep, dtype=jnp.int32) - 1, 0)
    at = numerator * last
    low = (at // denominator).astype(jnp.int32)
    part = (at % denominator).astype(x.dtype) / denominator
    high = x[low + 1]
    return x[low] + jnp.where(part > 0, part * (high - x[low]), 0)
