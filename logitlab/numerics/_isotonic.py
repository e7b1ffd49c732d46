"""Isotonic regression by pooling adjacent violators."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pool_violators(
    values: jax.Array, weights: jax.Array, blocks: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The nearest increasing sequence, and the number of each entry's block.

    Every round merges all neighbors that do not rise, so that few rounds are needed, in
    memory of the size of the values.

    Shapes: values [N], weights [N], blocks [N] -> [N], [N]

    Args:
      values: what is to rise.
      weights: of the squared distances; an entry of weight 0 joins the block before it.
      blocks: increasing integers from 0, equal where entries have to be equal; by
        default no two are.

    Returns:
      The means of the blocks, which rise strictly from one to the next, and the blocks.
    """
    start = jnp.arange(values.size, dtype=jnp.int32) if blocks is None else blocks

    def means(blocks):
        total = jnp.zeros_like(values).at[blocks].add(values * weights)
        weight = jnp.zeros_like(values).at[blocks].add(weights)
        return (total / jnp.where(weight > 0, weight, 1))[blocks], weight[blocks]

    def pool(carry):
        blocks, _ = carry
        mean, weight = means(blocks)
        rises = (mean[1:] > mean[:-1]) & (weight[1:] > 0)
        rises = jnp.concatenate([jnp.zeros(1, jnp.int32), rises.astype(jnp.int32)])
        new = jnp.cumsum(rises, dtype=jnp.int32)
        return new, new[-1] < blocks[-1]

    blocks, _ = jax.lax.while_loop(lambda carry: carry[1], pool, pool((start, True)))
    return means(blocks)[0], blocks
