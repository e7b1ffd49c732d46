"""The loss of a linear head's logits, of which only some exist at any time."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import sharding
from logitlab.heads.operands import (
    BUDGET,
    Linear,
    check_head,
    chunk_size,
    class_count,
    features_gradient,
    is_float,
    logits_of,
    values_and_wanted,
    wide,
)
from logitlab.heads.sharding import Static

__all__ = ["linear_loss"]


def linear_loss(
    loss: Callable,
    hidden: ArrayLike,
    kernel: ArrayLike,
    *arrays: ArrayLike | Linear,
    bias: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    aux: Callable | None = None,
    token_chunk: int | None = None,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array | tuple[jax.Array, Any]:
    r"""A loss of ``hidden @ kernel + bias``, with its gradient, a few tokens at a time.

    .. math:: \ell_i = \mathrm{loss}(t(h_i W + b), a_i), \qquad
        \frac{\sum_i w_i \ell_i}{\sum_i w_i} \text{ with weights}

    The same numbers as ``loss(transform(hidden @ kernel + bias), *arrays)``, in both
    directions, although no array of all logits ever exists: tokens are taken in chunks,
    and the logits of a chunk are made again for the gradient. With ``weights`` value
    and gradients come of one pass, in which logits are made once. The kernel's gradient
    is added up in blocks of the vocabulary, in float32 at least, where it is returned.
    What needs no gradient (a frozen head, a teacher behind ``stop_gradient``) costs
    none.

    Shapes: hidden [..., D], kernel [D, V], labels [...] -> [...]

    Args:
      loss: (logits, *arrays) -> one number for each token. Values that it closes over
        get their gradients too; on an explicit mesh, traced ones raise.
      hidden: features. 16-bit ones are multiplied as they are, with float32 sums.
      kernel: weights of the head.
      *arrays: the loss's other arguments, with the leading axes of ``hidden``, by which
        they are cut; a :class:`Linear` stands for logits that are to be made.
      bias: [V], or none.
      weights: [...], at least 0; makes the result the weighted mean, a scalar. A token
        of weight 0 is left out, and its label may be any integer. No weight at all
        gives 0.
      transform: logits -> logits, before the loss: a soft cap, a temperature, a link.
        It is not applied to those of a ``Linear``.
      transposed: kernels are [V, D], as an embedding table that is used again.
      aux: what else to take from the same logits, without gradient: a function of the
        loss's arguments that returns arrays with one row for each token, such as
        :func:`label_stats`. A token of weight 0 gives that of zeros.
      token_chunk: tokens at a time; by default as many as make logits of 64 MiB. The
        last chunk may be shorter, nothing is padded.
      vocab_chunk: columns of the kernel's gradient that are added to at a time; by
        default as many as make 64 MiB.
      axis_name: under ``jit``, the mesh axes that the vocabulary is spread over; the
        loss is then the compiler's to split. Inside a ``shard_map`` a loss sees whole
        rows: there, :func:`linear_label_loss` takes such a head.
      batch_axes: under ``jit``, the mesh axes that the first axis of ``hidden`` is
        spread over, each device of which goes through its own tokens; with an
        ``axis_name`` by default all others that divide it.

    Returns:
      One loss for each token, or with ``weights`` their weighted mean; in the dtype of
      the loss, float32 at least. With ``aux`` a pair, of that and what ``aux`` returns.

    Raises:
      TypeError: ``hidden`` or a kernel is not floating point.
      ValueError: shapes that do not fit together, a chunk below 1, labels outside the
        vocabulary where they are known, a loss that does not return one number for
        each token, an ``aux`` without a row for each, or an axis not in the mesh.

    Numerics: equal to the dense computation up to rounding, below 1e-5 in float32,
      value and all gradients. Reverse mode only, of higher orders too.

    Source: chunks of tokens, as in Liger-Kernel, Hsu et al. 2024, arXiv:2410.10989.

    >>> from logitlab import losses
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> linear_loss(losses.cross_entropy, hidden, kernel, jnp.arange(6)).shape
    (6,)
    """
    heads, rows, batch = _operands(hidden, kernel, bias, arrays, transposed)
    for name, size in (("token_chunk", token_chunk), ("vocab_chunk", vocab_chunk)):
        chunk_size(name, size, 1, 1)
    if weights is not None:
        weights = numerics.promote(weights, "weights")
        if weights.shape != batch:
            raise ValueError(f"weights has shape {weights.shape}, expected {batch}")
    place = sharding.class_mesh(
        hidden, kernel, axis_name, batch_axes, transposed=transposed
    )
    if place.shards_inside > 1:
        raise ValueError(
            f"axis_name is {axis_name!r} inside a shard_map, where the loss would see "
            "a part of each row; expected linear_label_loss or linear_label_stats there"
        )

    def of_some(logits, rows):
        """The loss of some tokens and what else, with every argument in its place."""
        logits, rows = iter(logits), iter(rows)
        first = next(logits)
        others = [next(logits) if isinstance(a, Linear) else next(rows) for a in arrays]
        first = first if transform is None else transform(first)
        more = () if aux is None else jax.lax.stop_gradient(aux(first, *others))
        return loss(first, *others), more

    _check_labels(of_some, heads, rows, weights, transposed)
    cut = _Plan({}, transposed, token_chunk, vocab_chunk, place)
    out, more = sharding.run_tokens(
        functools.partial(_of_tokens, cut, of_some),
        place,
        (heads, rows, weights),
        mean=weights is not None,
    )
    return out if aux is None else (out, more)


class _Plan(NamedTuple):
    """The loss for every size of chunk that occurs, and how the work is cut."""

    losses: dict[int, Callable]
    transposed: bool
    token_chunk: int | None
    vocab_chunk: int | None
    place: sharding.HeadMesh


def _of_tokens(plan, of_some, heads, rows, weights):
    """The losses, or their mean, of the tokens that this device holds, and the aux."""
    batch = heads[0].hidden.shape[:-1]
    count = math.prod(batch)
    flat = lambda a: a.reshape(count, *a.shape[len(batch) :])  # noqa: E731
    heads = tuple(head._replace(hidden=flat(head.hidden)) for head in heads)
    rows, weights = jax.tree.map(flat, (rows, weights))
    # All vary over the same axes of a shard_map from here on; the transpose adds the
    # gradients of what did not up over the devices.
    operands = heads, rows, weights = sharding.vary_alike((heads, rows, weights))
    classes = max(class_count(head, transposed=plan.transposed) for head in heads)
    width = max(head.hidden.shape[-1] for head in heads)
    chunk = chunk_size("token_chunk", plan.token_chunk, BUDGET // (4 * classes), count)
    block = chunk_size("vocab_chunk", plan.vocab_chunk, BUDGET // (4 * width), classes)
    if plan.place.classes:
        block = classes  # it is cut over the devices already, and cannot be cut across
    losses, closed = {}, ()
    for size in {min(chunk, count), count % chunk} - ({0} if count else set()):
        logits = tuple(_logits_like(head, size, plan.transposed) for head in heads)
        some = tuple(jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype) for a in rows)
        logits, some = sharding.examples((logits, some), like=operands)
        got, more = jax.eval_shape(of_some, logits, some)
        if getattr(got, "shape", None) != (size,):
            raise ValueError(
                f"loss returned {got} for {size} tokens, expected one number for each"
            )
        for leaf in jax.tree.leaves(more):
            if leaf.shape[:1] != (size,):
                raise ValueError(
                    f"aux returned {leaf} for {size} tokens, expected a row for each"
                )
        # What the loss closes over becomes an argument: it may want a gradient.
        losses[size], closed = jax.closure_convert(of_some, logits, some)
    plan = plan._replace(losses=losses, token_chunk=chunk, vocab_chunk=block)
    out, more = _fused(plan, heads, rows, tuple(closed), weights)
    shaped = lambda a: a.reshape(*batch, *a.shape[1:])  # noqa: E731
    more = jax.tree.map(shaped, more)
    return (shaped(out) if weights is None else out), more


def _fused(plan, heads, rows, closed, weights):
    """Losses [N] or their weighted mean, and the aux, with the derivatives above."""

    @jax.custom_vjp
    def run(*operands):
        losses, more = _losses(plan, *operands)
        if weights is not None:
            losses = _weighted(plan, losses, operands[-1])
        return losses, more

    def forward(*primals):
        operands, wanted = values_and_wanted(primals)
        wanted = Static(wanted)
        if weights is None:
            return run(*operands), (operands, wanted)
        losses, more, grads = _gradients(plan, operands, wanted, None)
        return (_weighted(plan, losses, operands[-1]), more), grads

    def backward(kept, cotangents):
        cotangent = cotangents[0]
        if isinstance(cotangent, SymbolicZero):
            cotangent = jnp.zeros(cotangent.shape, cotangent.dtype)
        if weights is None:
            return _gradients(plan, *kept, cotangent)[2]
        return jax.tree.map(lambda g: (cotangent * g).astype(g.dtype), kept)

    run.defvjp(forward, backward, symbolic_zeros=True)
    return run(heads, rows, closed, weights)


def _losses(plan, heads, rows, closed, weights):
    def one(carry, some):
        hidden, rows, w = some
        logits = _all_logits(plan, heads, _kept(hidden, w))
        return carry, plan.losses[hidden[0].shape[0]](logits, _kept(rows, w), *closed)

    hidden = tuple(head.hidden for head in heads)
    return _over_chunks(one, (), (hidden, rows, weights), plan.token_chunk)[1]


def _gradients(plan, operands, wanted, cotangent):
    """Losses [N], the aux, and a gradient for every operand that wants one or ``None``.

    They are those of the weighted mean, or else meet the ``cotangent`` of the losses.
    """
    heads, rows, closed, weights = operands
    want_heads, want_rows, want_closed, want_weights = wanted.value
    want_logits = tuple(any(jax.tree.leaves(want)) for want in want_heads)
    cotangent, _ = sharding.vary_alike((cotangent, heads))
    slopes = cotangent
    if weights is not None:
        total = _add_up(plan, jnp.where(weights > 0, weights, 0).sum())
        slopes = jnp.where(weights > 0, weights, 0) / jnp.where(total > 0, total, 1)

    def one(carry, some):
        hidden, rows, w, slopes = some
        hidden, rows = _kept(hidden, w), _kept(rows, w)
        logits = _all_logits(plan, heads, hidden)
        loss = plan.losses[hidden[0].shape[0]]

        def of_wanted(*parts):
            logits_, rows_, closed_ = map(
                _fill,
                parts,
                (logits, rows, closed),
                (want_logits, want_rows, want_closed),
            )
            return loss(logits_, rows_, *closed_)

        losses, pull, more = jax.vjp(
            of_wanted,
            _pick(logits, want_logits),
            _pick(rows, want_rows),
            _pick(closed, want_closed),
            has_aux=True,
        )
        d_logits, d_rows, d_closed = pull(slopes.astype(losses.dtype))
        d_logits, d_rows = _kept(d_logits, w), _kept(d_rows, w)
        d_hidden, sums = [], []
        gradients = iter(d_logits)
        for head, want, h, acc, any_ in zip(
            heads, want_heads, hidden, carry[0], want_logits, strict=True
        ):
            g = next(gradients) if any_ else None
            d_hidden.append(
                features_gradient(g, head, transposed=plan.transposed)
                if want.hidden
                else None
            )
            d_kernel, d_bias = acc
            if want.kernel:
                d_kernel = _add_outer(plan, d_kernel, h, g.astype(h.dtype))
            if head.bias is not None and want.bias:
                d_bias = d_bias + g.sum(0)
            sums.append((d_kernel, d_bias))
        d_closed = tuple(a + b for a, b in zip(carry[1], d_closed, strict=True))
        return (tuple(sums), d_closed), (losses, more, tuple(d_hidden), d_rows)

    def zeros(array, want):
        return jnp.zeros(array.shape, wide(array)) if want else None

    start = tuple(
        (
            zeros(head.kernel, want.kernel),
            zeros(head.bias, want.bias) if head.bias is not None else None,
        )
        for head, want in zip(heads, want_heads, strict=True)
    )
    hidden = tuple(head.hidden for head in heads)
    start, _ = sharding.vary_alike((start, heads))
    start = (
        start,
        tuple(jnp.zeros(a.shape, a.dtype) for a in _pick(closed, want_closed)),
    )
    (sums, d_closed), (losses, more, d_hidden, d_rows) = _over_chunks(
        one, start, (hidden, rows, weights, slopes), plan.token_chunk
    )
    d_heads = tuple(
        Linear(
            _cast(d, head.hidden),
            _cast(d_kernel, head.kernel),
            _cast(d_bias, head.bias),
        )
        for head, d, (d_kernel, d_bias) in zip(heads, d_hidden, sums, strict=True)
    )
    d_weights = None
    if weights is not None and want_weights:
        mean = _weighted(plan, losses, weights)
        d_weights = jnp.where(weights > 0, losses - mean, 0)
        d_weights = (d_weights / jnp.where(total > 0, total, 1)).astype(weights.dtype)
    none = lambda array: None  # noqa: E731
    return (
        losses,
        more,
        (
            d_heads,
            _fill(d_rows, jax.tree.map(none, rows), want_rows),
            _fill(d_closed, jax.tree.map(none, closed), want_closed),
            d_weights,
        ),
    )


def _over_chunks(function, carry, arrays, chunk):
    """Scans over chunks of the leading axis; the last one may be shorter."""
    count = jax.tree.leaves(arrays)[0].shape[0]
    full, outs = count // chunk * chunk, []
    if full:
        cut = jax.tree.map(
            lambda a: a[:full].reshape(full // chunk, chunk, *a.shape[1:]), arrays
        )
        carry, out = jax.lax.scan(function, carry, cut)
        outs.append(jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), out))
    if full < count or not count:
        carry, out = function(carry, jax.tree.map(lambda a: a[full:], arrays))
        outs.append(out)
    if len(outs) == 1:
        return carry, outs[0]
    return carry, jax.tree.map(lambda *a: jnp.concatenate(a), *outs)


def _all_logits(plan, heads, hidden):
    """Logits of every head, float32 at least, of some rows of its features."""
    return tuple(
        logits_of(head._replace(hidden=h), transposed=plan.transposed)
        for head, h in zip(heads, hidden, strict=True)
    )


def _logits_like(head, size, transposed):
    shape = size, class_count(head, transposed=transposed)
    return jax.ShapeDtypeStruct(shape, wide(head.hidden, head.kernel))


def _add_outer(plan, total, hidden, g):
    """Adds ``hidden.T @ g``, a block of the vocabulary at a time, in place."""
    classes, axis = g.shape[-1], 0 if plan.transposed else 1

    def add(total, start, size):
        cut = jax.lax.dynamic_slice_in_dim(g, start, size, 1)
        a, b = (cut, hidden) if plan.transposed else (hidden, cut)
        new = jnp.matmul(a.T, b, preferred_element_type=total.dtype)
        new += jax.lax.dynamic_slice_in_dim(total, start, size, axis)
        return jax.lax.dynamic_update_slice_in_dim(total, new, start, axis)

    full, rest = divmod(classes, plan.vocab_chunk)
    if full == 1 and not rest:
        return add(total, 0, classes)
    total = jax.lax.fori_loop(
        0,
        full,
        lambda i, total: add(total, i * plan.vocab_chunk, plan.vocab_chunk),
        total,
    )
    return add(total, full * plan.vocab_chunk, rest) if rest else total


def _weighted(plan, losses, weights):
    """The weighted mean; a weight of 0 selects a token out."""
    kept = weights > 0
    total = _add_up(plan, jnp.where(kept, weights, 0).sum())
    losses = _add_up(plan, jnp.where(kept, weights * losses, 0).sum())
    return losses / jnp.where(total > 0, total, 1)


def _add_up(plan, total):
    """The total of all devices' tokens."""
    over = plan.place.batch
    return jax.lax.psum(total, over) if over else total


def _kept(arrays, weights):
    """Zeros at tokens of weight 0, whose arrays may hold anything."""
    if weights is None:
        return arrays

    def keep(a):
        kept = jnp.expand_dims(weights > 0, range(1, a.ndim))
        return jnp.where(kept, a, jnp.zeros((), a.dtype))

    return jax.tree.map(keep, arrays)


def _pick(items, wanted):
    return tuple(item for item, want in zip(items, wanted, strict=True) if want)


def _fill(new, items, wanted):
    """``items`` with those that are wanted replaced by the ``new`` ones, in order."""
    new = iter(new)
    return tuple(
        next(new) if want else item for item, want in zip(items, wanted, strict=True)
    )


def _cast(array, like):
    return None if array is None else array.astype(like.dtype)


def _operands(hidden, kernel, bias, arrays, transposed):
    """Heads and other arrays, checked, and the axes of their tokens."""
    batch = jnp.shape(hidden)[:-1]
    first = Linear(hidden, kernel, bias)
    heads, rows = [check_head(first, batch, transposed=transposed)], []
    for i, array in enumerate(arrays):
        if isinstance(array, Linear):
            name = f"arrays[{i}]."
            heads.append(check_head(array, batch, transposed=transposed, name=name))
            continue
        array = jnp.asarray(array)
        if array.shape[: len(batch)] != batch:
            raise ValueError(
                f"arrays[{i}] has shape {array.shape}, expected the leading axes of "
                f"hidden, {batch}"
            )
        rows.append(array)
    return tuple(heads), tuple(rows), batch


def _check_labels(of_some, heads, rows, weights, transposed):
    """Asks the loss about labels that are no classes, where it can look at them.

    Inside the chunks they are unknown to it. It may know better: thresholds of an
    ordinal loss are one fewer than its classes.
    """
    classes, bad = class_count(heads[0], transposed=transposed), None
    batch = heads[0].hidden.shape[:-1]
    for labels in rows:
        if is_float(labels) or labels.shape != batch or not numerics.is_known(labels):
            continue
        beyond = (np.asarray(labels) < 0) | (np.asarray(labels) >= classes)
        bad = beyond if bad is None else bad | beyond
    if bad is None:
        return
    if weights is not None:
        if not numerics.is_known(weights):
            return
        bad &= np.asarray(weights) > 0
    some = np.flatnonzero(bad)[:5]
    if some.size:
        logits = (_logits_like(head, some.size, transposed) for head in heads)
        where = np.unravel_index(some, batch)
        of_some([jnp.zeros(z.shape, z.dtype) for z in logits], [a[where] for a in rows])
