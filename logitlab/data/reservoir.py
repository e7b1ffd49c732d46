"""A uniform sample of a stream of unknown length, in a memory of fixed size."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count

__all__ = ["Reservoir", "reservoir_init", "reservoir_update"]


class Reservoir(NamedTuple):
    """Examples of a stream, each of those seen so far with the same probability.

    Attributes:
      rows: arrays [Q, ...], of which the first ``seen`` are filled.
      seen: how many examples there were, at most the largest int32, [].
    """

    rows: Any
    seen: jax.Array


def reservoir_init(size: int, example: Any) -> Reservoir:
    """An empty reservoir with room for ``size`` examples like this one.

    Args:
      size: Q, a Python number.
      example: one example, an array or a tree of them, of which shapes and dtypes
        count.

    Raises:
      TypeError: ``size`` is no Python integer.
      ValueError: ``size`` is below 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.data import reservoir_init
    >>> reservoir_init(20, {"x": jnp.zeros(64), "y": jnp.array(0)}).rows["x"].shape
    (20, 64)
    """
    check_count("size", size)
    rows = jax.tree.map(
        lambda a: jnp.zeros((size, *jnp.shape(a)), jnp.result_type(a)), example
    )
    return Reservoir(rows, jnp.zeros((), jnp.int32))


def reservoir_update(
    reservoir: Reservoir,
    rows: Any,
    key: jax.Array,
    *,
    mask: ArrayLike | None = None,
) -> Reservoir:
    r"""A reservoir after more examples of the stream (algorithm R).

    Use it as the memory of replay: after n examples each of them is in it with
    probability :math:`\min(1, Q / n)`, whatever their order. Where the memory is full,
    example n takes the place of a random one with that probability.

    Args:
      reservoir: of ``reservoir_init`` or an earlier update.
      rows: a batch of examples, a tree like that of the reservoir with rows [B, ...].
      key: a ``jax.random.key``, another one each time.
      mask: bool [B], the examples that there are.

    Returns:
      A ``Reservoir`` of the same shapes, so that it can be scanned over.

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: ``rows`` does not fit the reservoir.

    Source: Vitter 1985, "Random sampling with a reservoir".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import reservoir_init, reservoir_update
    >>> memory = reservoir_init(3, jnp.zeros(()))
    >>> reservoir_update(memory, jnp.float32([5, 6]), jax.random.key(0)).rows
    Array([5., 6., 0.], dtype=float32)
    """
    known, new = (jax.tree.leaves(tree) for tree in (reservoir.rows, rows))
    shape: Any = jax.tree.structure(reservoir.rows)
    sizes = [jnp.shape(a) for a in new]
    room = len(known[0])
    if shape != jax.tree.structure(rows) or any(
        size[:1] != sizes[0][:1] or size[1:] != a.shape[1:] or not size
        for a, size in zip(known, sizes, strict=True)
    ):
        raise ValueError(
            f"rows has shapes {sizes}, expected [B, ...] as the reservoir, "
            f"{[a.shape for a in known]}"
        )
    keep = numerics.check_mask(mask, sizes[0][:1])
    most = np.iinfo(np.int32).max - len(keep)
    seen = jnp.minimum(reservoir.seen, most)
    number = seen + jnp.cumsum(keep, dtype=jnp.int32)  # of each example, from 1 on
    place = jax.random.randint(key, keep.shape, 0, jnp.maximum(number, 1))
    place = jnp.where(number <= room, number - 1, place)
    place = jnp.where(keep & (place < room), place, room)  # beyond it, nowhere
    # Of several for one place the last one stays.
    batch = jnp.arange(len(keep), dtype=jnp.int32)
    last = jnp.full(room, -1, jnp.int32).at[place].max(batch, mode="drop")

    def replaced(old, a):
        chosen = jnp.asarray(a, old.dtype)[jnp.maximum(last, 0)]
        return jnp.where((last >= 0).reshape(-1, *[1] * (old.ndim - 1)), chosen, old)

    filled = [replaced(*pair) for pair in zip(known, new, strict=True)]
    return Reservoir(
        jax.tree.unflatten(shape, filled), seen + jnp.sum(keep, dtype=jnp.int32)
    )
