"""Rank correlation of arrays that may be traced."""

import jax
import jax.numpy as jnp


def rank_correlation(a: jax.Array, b: jax.Array) -> jax.Array:
    """Spearman's; numbers that tie share their ranks."""

    def rank(x):
        below, same = x[None] < x[:, None], x[None] == x[:, None]
        return (below + 0.5 * same).sum(1)

    return jnp.corrcoef(rank(a), rank(b))[0, 1]
