"""Sums over all triplets of a batch, in the memory of its pairs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def triplet_sums(
    distances: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    margin: jax.Array,
    *,
    smooth: bool = False,
    across: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""What each anchor's triplets cost together, and how many of them count.

    .. math:: \sum_{p, n} h(d_{ap} - d_{an} + m)

    with h the hinge, or softplus. Triplets whose hinge is open count, or all of them.

    Shapes: distances [B, M], positive [B, M], negative [B, M], margin [],
      across [M, M] -> [B], [B]

    Args:
      distances: of anchors and references; minus similarities will do.
      positive: bool, the references of the anchor's class.
      negative: bool, the others.
      margin: m.
      smooth: softplus for the hinge.
      across: distances between references. A negative that is nearer to the positive
        than to the anchor then counts with that distance.

    Returns:
      Sums and numbers, both in the dtype of the distances.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics._triplets import triplet_sums
    >>> near, same = jnp.float32([[1, 2, 4]]), jnp.array([[True, False, False]])
    >>> print(*triplet_sums(near, same, ~same, jnp.float32(2)))
    [1.] [1.]
    """
    if across is not None:
        return _by_anchor(distances, positive, negative, margin, smooth, across)
    return _sums(distances, positive, negative, margin, smooth)


def _hinge(x, live, smooth):
    """Costs of triplets, and which count."""
    if smooth:
        return jnp.where(live, jax.nn.softplus(x), 0), live
    return jnp.where(live & (x > 0), x, 0), live & (x > 0)


def _by_anchor(distances, positive, negative, margin, smooth, across):
    """One anchor at a time: each has its own sum over the distances across."""

    @jax.checkpoint
    def one(row):
        d, p, n = row
        x = d[:, None] - jnp.minimum(d[None], across) + margin
        costs, count = _hinge(x, p[:, None] & n[None], smooth)
        return jnp.sum(costs), jnp.sum(count, dtype=d.dtype)

    return jax.lax.map(one, (distances, positive, negative))


# Memory and speed: a positive of each anchor at a time, as many as the largest class
# has, instead of all pairs of pairs; such a loop has no reverse mode of its own.
@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _sums(distances, positive, negative, margin, smooth):
    return _loop(distances, positive, negative, margin, smooth)[:2]


@_sums.defjvp
def _sums_jvp(smooth, primals, tangents):
    distances, positive, negative, margin = primals
    d_distances, _, _, d_margin = tangents
    if not smooth:  # slopes are numbers of triplets, which have none
        distances, margin = jax.lax.stop_gradient((distances, margin))
    total, count, slopes = _loop(
        distances, positive, negative, margin, smooth, slopes=True
    )
    by_margin = jnp.sum(jnp.where(positive, slopes, 0), -1)
    change = jnp.sum(slopes * d_distances, -1) + by_margin * d_margin
    return (total, count), (change, jnp.zeros_like(count))


def _loop(distances, positive, negative, margin, smooth, slopes=False):
    """Sums, numbers and, if asked for, the slopes in the distances."""
    size = distances.shape[1]
    column = jnp.arange(size)[None]

    def after(at):
        """The next positive of each anchor; ``size`` if there is none."""
        later = positive & (column > at[:, None])
        return jnp.min(jnp.where(later, column, size), -1, initial=size)

    def step(state):
        at, total, count, slope = state
        here = column == at[:, None]
        d = jnp.sum(jnp.where(here, distances, 0), -1, keepdims=True)
        x = d - distances + margin
        costs, counted = _hinge(x, negative & (at < size)[:, None], smooth)
        if slopes:
            falls = jnp.where(counted, jax.nn.sigmoid(x) if smooth else 1, 0)
            falls = falls.astype(x.dtype)
            slope = slope - falls
            slope = slope + jnp.where(here, jnp.sum(falls, -1, keepdims=True), 0)
        total = total + jnp.sum(costs, -1)
        return after(at), total, count + jnp.sum(counted, -1, dtype=x.dtype), slope

    zeros = jnp.sum(jnp.zeros_like(distances), -1)  # laid out as the distances are
    state = (
        after(jnp.full(len(distances), -1)),
        zeros,
        zeros,
        jnp.zeros_like(distances) if slopes else None,
    )
    state = jax.lax.while_loop(lambda state: jnp.any(state[0] < size), step, state)
    return state[1:]
