"""Past embeddings, to compare the anchors of a batch with: a cross-batch memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count

__all__ = ["Memory", "memory_init", "memory_push"]


class Memory(NamedTuple):
    """The last embeddings that were pushed, and their labels.

    Attributes:
      embeddings: [Q, D].
      labels: ints [Q], -1 where nothing has been pushed, which is in no pair.
      next: the place of the next one, [].
    """

    embeddings: jax.Array
    labels: jax.Array
    next: jax.Array


def memory_init(size: int, dim: int) -> Memory:
    """An empty memory for the last ``size`` embeddings of ``dim`` numbers.

    Use it where batches hold too few negatives: each loss of ``losses`` that takes a
    ``reference`` takes ``reference=memory.embeddings, reference_labels=memory.labels``.

    Raises:
      TypeError: a number is no Python integer.
      ValueError: a number is below 1.

    Source: Cross-Batch Memory, Wang et al. 2020, arXiv:1912.06798.

    >>> from logitlab.data import memory_init
    >>> memory_init(4, 8).labels
    Array([-1, -1, -1, -1], dtype=int32)
    """
    check_count("size", size)
    check_count("dim", dim)
    return Memory(
        jnp.zeros((size, dim)), jnp.full(size, -1, jnp.int32), jnp.zeros((), jnp.int32)
    )


def memory_push(
    memory: Memory,
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis_name: str | None = None,
) -> Memory:
    """A memory with more embeddings, in place of the oldest where it is full.

    Push a batch after its loss, lest an anchor be compared with itself. Under ``jit``
    the embeddings may be spread over devices in any way; a memory that is placed on all
    of them is the same on each. Inside ``shard_map`` and ``pmap`` name the axis.

    Shapes: embeddings [K, D], labels [K], mask [K]

    Args:
      memory: of ``memory_init`` or an earlier push, [Q, D].
      embeddings: the last of them the newest, at most Q; no gradient.
      labels: ints; an example with a negative one is not pushed.
      mask: bool, those that are pushed.
      axis_name: of the devices inside ``shard_map``: what each has is pushed to all
        memories, in the order of the devices.

    Returns:
      A ``Memory``.

    Raises:
      TypeError: ``embeddings`` is not floating point, ``labels`` not integer, or
        ``mask`` not bool.
      ValueError: the shapes disagree, or there are more embeddings than the memory has
        room for.

    Source: Cross-Batch Memory, Wang et al. 2020, arXiv:1912.06798.

    >>> import jax.numpy as jnp
    >>> from logitlab import losses
    >>> from logitlab.data import memory_init, memory_push
    >>> memory = memory_push(memory_init(3, 2), jnp.eye(2), jnp.array([7, 8]))
    >>> memory.labels
    Array([ 7,  8, -1], dtype=int32)
    >>> past = dict(reference=memory.embeddings, reference_labels=memory.labels)
    >>> losses.multi_similarity_loss(jnp.eye(2), jnp.array([7, 8]), **past).round(3)
    Array([0.157, 0.157], dtype=float32)
    """
    e = jax.lax.stop_gradient(numerics.promote_to_float32(embeddings, "embeddings"))
    y = numerics.wide_labels(labels)
    room, dim = memory.embeddings.shape
    if e.ndim != 2 or e.shape[1] != dim:
        raise ValueError(f"embeddings has shape {e.shape}, expected [K, {dim}]")
    if y.shape != e.shape[:1]:
        raise ValueError(f"labels has shape {y.shape}, expected {e.shape[:1]}")
    keep = numerics.check_mask(mask, y.shape) & (y >= 0)
    e = jnp.where(keep[:, None], e, 0).astype(memory.embeddings.dtype)
    e, y, keep = (_whole(a, axis_name) for a in (e, y, keep))
    if len(e) > room:
        raise ValueError(f"embeddings has {len(e)} rows, expected at most {room}")
    at = (memory.next + jnp.cumsum(keep, dtype=jnp.int32) - 1) % room
    at = jnp.where(keep, at, room)  # beyond the end, where nothing is written
    return Memory(
        memory.embeddings.at[at].set(e, mode="drop"),
        memory.labels.at[at].set(y, mode="drop"),
        (memory.next + jnp.sum(keep, dtype=jnp.int32)) % room,
    )


def _whole(a, axis_name):
    """Rows of all devices, on each of them, one device after the other."""
    if axis_name is None:
        return numerics.unsharded(a)
    # A sum, because its result is known to be the same on each.
    size, at = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
    number = a.astype(jnp.int32) if a.dtype == bool else a
    places = jnp.zeros((size, *a.shape), number.dtype)
    rows = jax.lax.psum(places.at[at].set(number), axis_name)
    return rows.reshape(-1, *a.shape[1:]).astype(a.dtype)
