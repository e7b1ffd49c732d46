"""Where the steps of a compiled loop find their batches."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from logitlab.train.mesh import row_count


class Feed(NamedTuple):
    """Source of a loop's batches: ``start`` makes the carry of ``batch``.

    Attributes:
      start: (train data, state) -> carry.
      batch: (train data, state, i, carry) -> (batch of the loop's i-th step, carry).
    """

    start: Callable
    batch: Callable


def whole_feed() -> Feed:
    """Every step sees all rows."""
    return Feed(lambda data, state: (), lambda data, state, i, carry: (data, carry))


def stream_feed() -> Feed:
    """The i-th step sees the i-th of the stacked batches that came from the host."""

    def batch(data, state, i, carry):
        del state
        return jax.tree.map(lambda a: a[i], data), carry

    return Feed(lambda data, state: (), batch)


def sample_feed(batch_size: int) -> Feed:
    """Rows in a random order, a new one each epoch; a last short batch is left out.

    The order is a function of the state's key and epoch, so a resumed run goes on in
    the middle of the same one.
    """

    def epoch_of(rows, state):
        return state.step // (rows // batch_size)

    def start(data, state):
        rows = row_count(data)
        return _order(state.key, epoch_of(rows, state), rows)

    def batch(data, state, i, carry):
        del i
        rows = row_count(data)
        place = state.step % (rows // batch_size)
        carry = _renewed(place == 0, state.key, epoch_of(rows, state), carry)
        chosen = jax.lax.dynamic_slice_in_dim(carry, place * batch_size, batch_size)
        return jax.tree.map(lambda a: a[chosen], data), carry

    return Feed(start, batch)


def _order(key, epoch, rows):
    key = jax.random.split(key)[1]
    return jax.random.permutation(jax.random.fold_in(key, epoch), rows)


@jax.custom_batching.custom_vmap
def _renewed(due, key, epoch, order):
    """The order of the rows, a new one at the start of an epoch."""
    return jax.lax.cond(due, lambda: _order(key, epoch, len(order)), lambda: order)


@_renewed.def_vmap
def _renewed_for_seeds(size, batched, *args):
    # A cond under vmap would draw a new order for every seed at every step.
    due, key, epoch, order = (
        a if b else jnp.broadcast_to(a, (size, *a.shape))
        for a, b in zip(args, batched, strict=True)
    )

    def renew():
        new = jax.vmap(lambda k, e: _order(k, e, order.shape[1]))(key, epoch)
        return jnp.where(due[:, None], new, order)

    return jax.lax.cond(due.any(), renew, lambda: order), True
