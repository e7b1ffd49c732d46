"""The training step, batching, and loops of steps in one compiled program."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from logitlab import numerics
from logitlab._compat import to_varying
from logitlab.train.feeds import Feed
from logitlab.train.mesh import pad_rows, row_count
from logitlab.train.study import Batch


class TrainState(NamedTuple):
    """Training state: all that changes, and all that a checkpoint holds.

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


Optimizer: TypeAlias = optax.GradientTransformation | Callable[[jax.Array], Any]
"""An optax transformation, or a function of a key that makes one."""


def init_params(init: Callable, key: jax.Array) -> Any:
    """The parameters of :func:`init_state`."""
    return init(jax.random.split(key)[0])


def init_state(
    init: Callable,
    optimizer: Optimizer,
    key: jax.Array,
    *,
    keep_best: bool = False,
    untrained: Sequence[str] = (),
) -> TrainState:
    """The state before the first step.

    Raises:
      ValueError: the parameters have no entry of a name in ``untrained``.
    """
    params, key = init_params(init, key), jax.random.split(key)[1]
    opt_state = _made(optimizer, key).init(_parted(params, untrained)[0])
    zero = jnp.zeros((), jnp.int32)
    best = params if keep_best else ()
    return TrainState(zero, params, opt_state, key, zero, best)


def _made(optimizer, key):
    return optimizer(jax.random.fold_in(key, 2)) if callable(optimizer) else optimizer


def _parted(params, untrained):
    """What the optimizer sees of the parameters, and what it does not."""
    if not untrained:
        return params, {}
    entries = list(params) if isinstance(params, Mapping) else type(params).__name__
    missing = [name for name in untrained if name not in entries]
    if missing or isinstance(entries, str):
        raise ValueError(
            f"untrained names {list(untrained)}, expected entries of the parameters, "
            f"which are {entries}"
        )
    trained = {name: a for name, a in params.items() if name not in untrained}
    return trained, {name: params[name] for name in untrained}


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
    untrained: Sequence[str] = (),
    extra_args: Callable[[Any, Batch, jax.Array], Mapping[str, Any]] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, jax.Array]]:
    r"""A step: (state, batch) -> (state, mean loss before the update).

    For losses :math:`\ell_b` of the rows it descends the mean over the rows at which
    the batch's ``mask`` is True (all rows without one); the others reach ``loss`` as
    zeros, whatever they held. For pairs of sums and counts it descends

    .. math:: \frac{\sum_b s_b}{\sum_b n_b},

    the mean over tokens, say, of sequences of unequal length. Either is the mean of the
    whole batch for any number of micro-batches and devices. With ``axis_name`` each
    device holds some of the rows (inside ``pmap`` or ``shard_map``), and the mean is
    over those of all devices.

    Args:
      loss: (params, batch, key) -> losses [B], one for each row of the batch it is
        given, or a pair (sums [B], counts [B]), such as a
        :class:`~logitlab.metrics.Mean`; with ``from_optimizer`` it takes the extracted
        value as a fourth argument. Counts are constants: no gradient passes through
        them, and a row whose count is 0 is left out. Integer and bool counts are summed
        exactly. An objective of the batch as a whole returns its value B times, by
        ``jnp.full``; each micro-batch and each device is then a batch of its own.
      optimizer: an optax transformation, or a function of a key that makes one. Its
        ``update`` gets the params and, if it takes them, optax's usual extra arguments:
        ``value`` and ``grad``, the mean loss and its gradient, and ``value_fn``, the
        function of the params that they belong to.
      from_optimizer: extracts from the optimizer's state the value that ``loss`` takes
        as its fourth argument, without a gradient.
      axis_name: the mapped axis that the rows are spread over.
      skip_nonfinite: a step whose loss or gradient is infinite or NaN changes nothing
        but its number and the count of such steps.
      accumulate: how many parts of a batch go one after another, to need less memory.
        Mean and gradient are those of the whole batch, if the loss of a row depends on
        no other row; what it draws at random is another draw.
      precision: a dtype in which ``loss`` gets the floats of the params and of the
        batch's ``inputs``. Params, their gradients, the optimizer's state and the mean
        keep theirs, and the mean is at least float32.
      inputs: the entries of a batch that the model computes with.
      untrained: entries of the params, a mapping, that the model computes itself, such
        as batch statistics. ``loss`` then returns a pair: what it returned without
        them, and a mapping of their new values. They have no gradient, the optimizer
        does not see them and ``precision`` leaves them as they are. From micro-batches
        and devices they get the mean, weighted as the loss is, integers and bools its
        rounding.
      extra_args: (params, batch, key) -> further keyword arguments of the optimizer's
        ``update``, arrays or functions of the params, such as ``logits_fn`` for
        :func:`logitlab.optim.cap_by_ghost_radius`. It is given the parameters that the
        optimizer sees, the whole batch, and a key of its own.

    Raises:
      ValueError: ``accumulate`` is below 1, ``precision`` no float dtype, or
        ``extra_args`` stands beside ``axis_name``: a device would see its own rows
        only. When the step is traced: ``loss`` returned another shape or other entries
        than ``untrained``, the arrays of the batch have unequal numbers of rows, or
        ``mask`` has another shape than [B].
      TypeError: when the step is traced: losses are not floating point, or ``mask`` is
        not bool.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> from logitlab.train import init_state, make_step
    >>> def token_mean(params, batch, key):
    ...     losses = (batch["x"] - params) ** 2
    ...     tokens = batch["tokens"]
    ...     return jnp.where(tokens, losses, 0).sum(-1), tokens.sum(-1)
    >>> x = jnp.array([[1.0, 3.0, 5.0], [3.0, 0.0, 0.0]])
    >>> batch = {"x": x, "tokens": x > 0}
    >>> sgd = optax.sgd(0.5)
    >>> state = init_state(lambda key: jnp.zeros(()), sgd, jax.random.key(0))
    >>> for parts in (1, 2):
    ...     new, value = make_step(token_mean, sgd, accumulate=parts)(state, batch)
    ...     print(value, new.params)
    11.0 3.0
    11.0 3.0
    """
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}, expected at least 1")
    if extra_args is not None and axis_name is not None:
        raise ValueError(
            "extra_args needs the whole batch, expected no axis_name: parallel='jit'"
        )
    lower = caster(precision)

    def step(state, batch):
        key = jax.random.fold_in(jax.random.split(state.key)[0], state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

        rows, more = _kept_rows(batch), ()
        if from_optimizer is not None:
            more = (jax.lax.stop_gradient(from_optimizer(state.opt_state)),)

        params, kept = _parted(state.params, untrained)

        def loss_and_rest(params, rows, key):
            low = {name: lower(rows[name]) for name in inputs if name in rows}
            params = {**lower(params), **kept} if untrained else lower(params)
            out, new = loss(params, {**rows, **low}, key, *lower(more)), {}
            if untrained:
                out, new = _told(out, kept)
            value, count = _mean_and_count(out, rows)
            return value, (new, count)

        def mean_loss(params, rows, key):
            value, (_, count) = loss_and_rest(params, rows, key)
            return value, count

        graded = jax.value_and_grad(loss_and_rest, has_aux=True)

        def all_means(params, rows, key):
            (value, (new, count)), grads = graded(params, rows, key)
            return (value, grads, new), count

        def over_all(of, params):
            """Mean of ``of``, (params, rows, key) -> (means, count), over all rows."""
            if axis_name is not None:
                params = to_varying(params, axis_name)
            of = functools.partial(of, params)
            return _mean_of_parts(of, rows, key, accumulate, axis_name)

        mean = functools.partial(over_all, mean_loss)
        value_fn = _with_gradient(mean, functools.partial(over_all, all_means))
        value, grads, new = over_all(all_means, params)
        kept = jax.tree.map(_from_float, new, kept)
        update = _made(optimizer, state.key).update
        more_args = {}
        if extra_args is not None:
            more_args = dict(
                extra_args(params, rows, jax.random.fold_in(key, 2**31 - 1))
            )
        extra = _taken(
            update, **dict(value=value, grad=grads, value_fn=value_fn) | more_args
        )
        updates, opt_state = update(grads, state.opt_state, params, **extra)
        # A hyper-parameter, such as a NumPy scalar of 64 bits, decides no dtype.
        opt_state = jax.tree.map(_as, opt_state, state.opt_state)
        params = optax.apply_updates(params, updates)
        params = {**params, **kept} if untrained else params
        skipped = state.skipped
        if skip_nonfinite:
            fine = _all_finite((value, grads, new))
            old = state.params, state.opt_state
            params, opt_state = jax.tree.map(
                functools.partial(jnp.where, fine), (params, opt_state), old
            )
            skipped = skipped + ~fine
        return state._replace(
            step=state.step + 1, params=params, opt_state=opt_state, skipped=skipped
        ), value

    return step


def _with_gradient(mean: Callable, all_means: Callable) -> Callable:
    """``mean`` of the params, with the gradient that ``all_means`` returns."""

    # Exact: inside pmap the derivative of a psum is not that of the sum
    # (test_optimizers_see_the_mean_over_all). Memory: no part is kept for a derivative.
    @jax.custom_jvp
    def value_fn(params):
        return mean(params)

    @value_fn.defjvp
    def value_fn_jvp(primals, tangents):
        value, grads, _ = all_means(*primals)
        rises = jax.tree.map(lambda g, t: (g * t).sum(), grads, *tangents)
        return value, sum(jax.tree.leaves(rises)).astype(value.dtype)

    return value_fn


def _taken(function, **arguments):
    """The keyword arguments that a function accepts."""
    takes = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in takes}


def _as(new, old):
    dtype = jax.typeof(old).dtype
    return new if jax.typeof(new).dtype == dtype else new.astype(dtype)


def caster(precision):
    """A function that casts a tree's floats to ``precision``, or the identity.

    Raises:
      ValueError: ``precision`` is no float dtype.
    """
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


def _told(out, kept):
    """Parts what a loss returned from the new values of the entries not trained."""
    is_pair = isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)
    if not is_pair or out[1].keys() != kept.keys():
        found = f"entries {sorted(out[1])}" if is_pair else _described(out)
        raise ValueError(
            f"loss returned {found}, expected a pair: losses, and the new values of "
            f"the untrained entries {sorted(kept)}"
        )

    def float_of(new, old):
        if jnp.shape(new) != jnp.shape(old):
            raise ValueError(
                f"an untrained entry has shape {jnp.shape(new)}, expected what it had, "
                f"{jnp.shape(old)}"
            )
        floats = jnp.issubdtype(old.dtype, jnp.floating)
        dtype = old.dtype if floats else jnp.float32
        return jax.lax.stop_gradient(jnp.asarray(new, dtype))

    return out[0], jax.tree.map(float_of, dict(out[1]), kept)


def _from_float(new, old):
    floats = jnp.issubdtype(old.dtype, jnp.floating)
    return (new if floats else jnp.rint(new)).astype(old.dtype)


def _mean_and_count(out, rows):
    """Masked mean of what a loss returned, and the count that it is over."""
    size = (row_count(rows),)
    sums, counts = out if isinstance(out, tuple) and len(out) == 2 else (out, None)
    for array in (sums,) if counts is None else (sums, counts):
        if getattr(array, "shape", None) != size:
            raise ValueError(
                f"loss returned {_described(out)} for a batch of {size[0]} rows, "
                f"expected losses of shape {size}, one for each row and not their "
                f"mean, or a pair (sums, counts) of that shape, such as each row's sum "
                "over its tokens and their number"
            )
    losses = numerics.promote_to_float32(sums, "what loss returned")
    mask = rows.get("mask", jnp.ones(size, bool))
    if counts is None:
        return numerics.masked_mean(losses, mask), mask.sum(dtype=jnp.int32)
    counts = jnp.asarray(jax.lax.stop_gradient(counts))
    if jnp.issubdtype(counts.dtype, jnp.floating):
        counts = numerics.promote_to_float32(counts)  # in 16 bits their sum would stall
    counts = jnp.where(mask, counts, 0)
    mask, total = mask & (counts != 0), counts.sum()
    ratio = _share(mask.sum(dtype=jnp.int32), total, losses.dtype)
    return numerics.masked_mean(losses, mask) * ratio, total


def _described(out):
    if isinstance(out, tuple):
        return f"({', '.join(map(_described, out))})"
    shape = getattr(out, "shape", None)
    return type(out).__name__ if shape is None else f"shape {shape}"


def _share(count, total, dtype):
    """``count / total``, 0 where the total is 0."""
    count, total = count.astype(dtype), total.astype(dtype)
    return jnp.where(total == 0, 0, count / jnp.where(total == 0, 1, total))


def _mean_of_parts(of, rows, key, parts, axis_name):
    """Means over a whole batch, accumulated in parts and over devices.

    A mean of means, weighted by their shares in the count, cannot overflow where the
    mean itself does not.

    Args:
      of: (rows, key) -> (means, count), the means being a tree of floats.
      rows: those of this device.
      key: each part gets its own.
      parts: how many go one after another.
      axis_name: the mapped axis of the devices, or None.
    """

    def wide(mean):
        return mean.astype(jnp.promote_types(mean.dtype, jnp.float32))

    def weighted(means, count, total):
        def times(mean):
            return wide(mean) * _share(count, total, wide(mean).dtype)

        return jax.tree.map(times, means)

    def add(so_far, part):
        (means, count), (i, some) = so_far, part
        new, more = of(some, jax.random.fold_in(key, i))
        total = count + more
        old, new = weighted(means, count, total), weighted(new, more, total)
        return (jax.tree.map(jnp.add, old, new), total), None

    def split(leaf):
        # Every parts-th row, so that a part is spread over the devices as the batch is.
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    if parts == 1:
        means, count = of(rows, key)
        dtypes = jax.tree.map(lambda mean: mean.dtype, means)
    else:
        places = jnp.arange(parts), jax.tree.map(split, pad_rows(rows, parts))
        shapes = jax.eval_shape(of, jax.tree.map(lambda a: a[0], places[1]), key)
        dtypes = jax.tree.map(lambda mean: mean.dtype, shapes[0])
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        zeros = jax.tree.map(wide, zeros[0]), zeros[1]
        if axis_name is not None:
            zeros = to_varying(zeros, axis_name)
        (means, count), _ = jax.lax.scan(add, zeros, places)
    if axis_name is not None:
        total = jax.lax.psum(count, axis_name)
        means = jax.lax.psum(weighted(means, count, total), axis_name)
    return jax.tree.map(lambda mean, dtype: mean.astype(dtype), means, dtypes)


def _all_finite(tree):
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]))


def _kept_rows(batch):
    """Zeros masked rows: a NaN there would survive a select's gradient."""
    size = (row_count(batch),)
    if "mask" not in batch:
        return batch
    mask = jnp.asarray(batch["mask"])
    if mask.dtype != bool:
        raise TypeError(f"mask of the batch has dtype {mask.dtype}, expected bool")
    if mask.shape != size:
        raise ValueError(
            f"mask of the batch has shape {mask.shape}, expected {size}, the rows that "
            "count; a mask of tokens needs another name"
        )

    def clear(leaf):
        return jnp.where(
            jnp.expand_dims(mask, range(1, leaf.ndim)), leaf, jnp.zeros((), leaf.dtype)
        )

    return jax.tree.map(clear, dict(batch)) | {"mask": mask}


def advance(step: Callable, feed: Feed, *, stops: bool = True) -> Callable:
    """A while loop of steps: (state, data, n) -> (state, last loss).

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
