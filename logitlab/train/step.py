"""One update, and many of them in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from logitlab import numerics
from logitlab.train.mesh import pad_rows
from logitlab.train.study import Batch


class TrainState(NamedTuple):
    """All that changes during training, and so all that a checkpoint holds.

    ``key`` stays the same: a step draws from it by folding its number in. ``skipped``
    counts the steps that changed nothing, for not being finite. ``best`` holds the
    parameters of the best evaluation, where a run keeps them.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    key: jax.Array
    skipped: jax.Array
    best: Any = ()


Optimizer = optax.GradientTransformation | Callable[[jax.Array], Any]
"""An optax transformation, or a function of a key that makes one."""


def init_params(init: Callable, key: jax.Array) -> Any:
    """The parameters of :func:`init_state`."""
    return init(jax.random.split(key)[0])


def init_state(
    init: Callable, optimizer: Optimizer, key: jax.Array, *, keep_best: bool = False
) -> TrainState:
    """The state before the first step."""
    params, key = init_params(init, key), jax.random.split(key)[1]
    opt_state = _made(optimizer, key).init(params)
    zero = jnp.zeros((), jnp.int32)
    best = params if keep_best else ()
    return TrainState(zero, params, opt_state, key, zero, best)


def _made(optimizer, key):
    return optimizer(jax.random.fold_in(key, 2)) if callable(optimizer) else optimizer


def make_step(
    loss: Callable,
    optimizer: Optimizer,
    *,
    from_optimizer: Callable | None = None,
    axis_name: str | None = None,
    skip_nonfinite: bool = False,
    accumulate: int = 1,
    precision: str | None = None,
    inputs: Sequence[str] = ("x",),
) -> Callable[[TrainState, Batch], tuple[TrainState, jax.Array]]:
    """A step: (state, batch) -> (state, mean loss before the update).

    The mean is over the rows at which the batch's ``mask`` is True, all rows without
    one; the others reach ``loss`` as zeros, whatever they held. With ``axis_name`` each
    device holds some of the rows (inside ``pmap`` or ``shard_map``), and the mean is
    over those of all devices.

    Args:
      loss: (params, batch, key) -> one loss per row; with ``from_optimizer`` it takes
        that as a fourth argument.
      optimizer: an optax transformation, or a function of a key that makes one; it is
        given the params.
      from_optimizer: optimiser state -> what the loss wants to see of it.
      axis_name: the mapped axis that the rows are spread over.
      skip_nonfinite: a step whose loss or gradient is infinite or NaN changes nothing
        but its number and the count of such steps.
      accumulate: how many parts of a batch go one after another, to need less memory.
        Mean and gradient are those of the whole batch, if the loss of a row depends on
        no other row; what it draws at random is another draw.
      precision: a dtype in which ``loss`` gets the floats of the params and of the
        batch's ``inputs``. Params, their gradients, the optimiser's state and the mean
        keep theirs, and the mean is at least float32.
      inputs: the entries of a batch that the model computes with.

    Raises:
      ValueError: ``accumulate`` is below 1, or ``precision`` no float dtype.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}, expected at least 1")
    lower = _caster(precision)

    def losses_of(params, rows, key, *more):
        low = {name: lower(rows[name]) for name in inputs if name in rows}
        losses = loss(lower(params), {**rows, **low}, key, *lower(more))
        return losses.astype(jnp.promote_types(losses.dtype, jnp.float32))

    def step(state, batch):
        key = jax.random.fold_in(jax.random.split(state.key)[0], state.step)
        params = state.params
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
            params = jax.lax.pcast(params, axis_name, to="varying")

        rows, more = _kept_rows(batch), ()
        if from_optimizer is not None:
            more = (jax.lax.stop_gradient(from_optimizer(state.opt_state)),)

        def mean_loss(params, rows, key, total=None):
            losses = losses_of(params, rows, key, *more)
            mask = rows.get("mask", jnp.ones(losses.shape, bool))
            if total is None:
                return numerics.masked_mean(losses, mask)
            kept = mask.sum(dtype=losses.dtype)
            share = jnp.maximum(kept, 1) / jnp.maximum(total, 1).astype(losses.dtype)
            return numerics.masked_mean(losses, mask) * share

        graded = jax.value_and_grad(mean_loss)
        if accumulate == 1 and axis_name is None:
            value, grads = graded(params, rows, key)
        else:
            total = _count(rows)
            if axis_name is not None:
                total = jax.lax.psum(total, axis_name)
            value, grads = _added_up(
                graded, params, rows, key, total, accumulate, axis_name
            )
        if axis_name is not None:
            value, grads = jax.lax.psum((value, grads), axis_name)
        updates, opt_state = _made(optimizer, state.key).update(
            grads, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        skipped = state.skipped
        if skip_nonfinite:
            fine = _all_finite((value, grads))
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(fine, new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )
            skipped = skipped + ~fine
        return state._replace(
            step=state.step + 1, params=params, opt_state=opt_state, skipped=skipped
        ), value

    return step


def _caster(precision):
    """Tree -> tree whose floats have the dtype ``precision``, if there is one."""
    if not precision:
        return lambda tree: tree
    try:
        dtype = jnp.dtype(precision)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"precision is {precision!r}, expected a float dtype, or none")

    def cast(leaf):
        floats = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if floats else leaf

    return lambda tree: jax.tree.map(cast, tree)


def _count(rows):
    """How many rows of a batch count."""
    if "mask" in rows:
        return rows["mask"].sum()
    return jnp.asarray(_rows(rows))


def _added_up(graded, params, rows, key, total, parts, axis_name):
    """Mean loss and gradient of a batch whose parts go one after another."""
    if parts == 1:
        return graded(params, rows, key, total)

    def split(leaf):
        # Every parts-th row, so that a part is spread over the devices as the batch is.
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    rows = jax.tree.map(split, pad_rows(rows, parts))

    def of(i):
        part = jax.tree.map(lambda leaf: leaf[i], rows)
        return graded(params, part, jax.random.fold_in(key, i), total)

    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(of, 0))
    if axis_name is not None:
        zeros = jax.lax.pcast(zeros, axis_name, to="varying")
    return jax.lax.fori_loop(
        0, parts, lambda i, sums: jax.tree.map(jnp.add, sums, of(i)), zeros
    )


def _all_finite(tree):
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]))


def _kept_rows(batch):
    """A NaN behind the mask would pass a select in value, but not in gradient."""
    if "mask" not in batch:
        return batch
    mask = batch["mask"]

    def clear(leaf):
        return jnp.where(
            jnp.expand_dims(mask, range(1, leaf.ndim)), leaf, jnp.zeros((), leaf.dtype)
        )

    return jax.tree.map(clear, dict(batch)) | {"mask": mask}


class Feed(NamedTuple):
    """How a loop comes by its batches: ``start`` makes what ``batch`` carries along.

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
        rows = _rows(data)
        return _order(state.key, epoch_of(rows, state), rows)

    def batch(data, state, i, carry):
        del i
        rows = _rows(data)
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


def _rows(data):
    return jax.tree.leaves(data)[0].shape[0]


def advance(step: Callable, feed: Feed, *, stops: bool = True) -> Callable:
    """Many steps in one loop: (state, data, n) -> (state, last loss).

    Runs ``n`` steps; if it ``stops``, fewer where a loss is not finite: that of the
    failed step is then returned. ``n`` is traced, so one compiled program serves every
    distance between two evaluations, and no step waits for the host.
    """

    def run(state, data, n):
        def going(carry):
            i, _, _, value = carry
            return (i < n) & (jnp.isfinite(value) if stops else True)

        def body(carry):
            i, state, fed, value = carry
            batch, fed = feed.batch(data, state, i, fed)
            state, loss = step(state, batch)
            return i + 1, state, fed, loss.astype(value.dtype)

        start = (
            jnp.zeros((), jnp.int32),
            state,
            feed.start(data, state),
            jnp.zeros(()),
        )
        _, state, _, value = jax.lax.while_loop(going, body, start)
        return state, value

    return run
