"""Linear head evaluated in blocks of the vocabulary, with gradient accumulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._operands import (
    Linear,
    chunk_size,
    class_count,
    features_gradient,
    logits_of,
    wide,
)

__all__ = [
    "Blocks",
    "add_gradients",
    "block_of",
    "columns_of",
    "elementwise",
    "finish_gradients",
    "first_class",
    "is_label",
    "no_gradients",
    "over_blocks",
]


class Blocks(NamedTuple):
    """The logits' transform, and how the vocabulary is divided into blocks."""

    transform: Callable | None
    transposed: bool
    vocab_chunk: int | None
    axis_name: tuple[str, ...]


def over_blocks(plan: Blocks, head: Linear, carry, function: Callable):
    """Folds ``function(carry, start, size)`` over blocks; the last may be shorter."""
    classes = class_count(head, transposed=plan.transposed)
    # Small enough for a CPU's caches, and for an accelerator to be kept busy.
    budget = 2**24 if jax.default_backend() == "cpu" else 2**27
    default = max(512, budget // (4 * max(len(head.hidden), 1)))
    size = chunk_size("vocab_chunk", plan.vocab_chunk, default, classes)
    full, rest = divmod(classes, size)
    if full == 1:
        carry = function(carry, 0, size)
    else:
        carry = jax.lax.fori_loop(
            0, full, lambda i, carry: function(carry, i * size, size), carry
        )
    return function(carry, full * size, rest) if rest else carry


def block_of(plan, head, columns, closed, start, size):
    """Logits and class weights of a block, and the transform's pullback.

    Hidden classes are at ``-inf`` after the transform: a soft cap would lift them.
    """
    where, each = (
        None if a is None else jax.lax.dynamic_slice_in_dim(a, start, size, -1)
        for a in columns
    )
    head = columns_of(plan, head, start, size)
    z = logits_of(head, transposed=plan.transposed)
    if plan.transform is None:
        u, pull = z, lambda g: (g, ())
    else:
        u, back = jax.vjp(plan.transform, z, closed)
        pull = lambda g: back(g.astype(u.dtype))  # noqa: E731
    if where is not None:
        u = jnp.where(where, u, -jnp.inf)
    return u, 1 if each is None else each.astype(u.dtype)[None], pull


def columns_of(plan: Blocks, head: Linear, start: ArrayLike, size: int) -> Linear:
    """The head restricted to ``size`` classes from ``start`` on."""
    cut = jax.lax.dynamic_slice_in_dim
    bias = None if head.bias is None else cut(head.bias, start, size)
    kernel = cut(head.kernel, start, size, 0 if plan.transposed else 1)
    return Linear(head.hidden, kernel, bias)


def first_class(plan: Blocks, head: Linear) -> jax.Array | int:
    """Index of the first class that this device holds."""
    if not plan.axis_name:
        return 0
    classes = class_count(head, transposed=plan.transposed)
    return jax.lax.axis_index(plan.axis_name) * classes


def is_label(labels: jax.Array, first: ArrayLike, size: int) -> jax.Array:
    """Where a block's class is the label. Shapes: labels [N] -> [N, size]"""
    classes = jax.lax.broadcasted_iota(labels.dtype, (len(labels), size), 1)
    return classes == (labels - first)[:, None]


class _Sums(NamedTuple):
    """Accumulated gradients; ``None`` where none is wanted."""

    head: Linear
    closed: tuple[jax.Array, ...]


def no_gradients(head: Linear, want: Linear, closed: tuple) -> _Sums:
    """Zero gradients of what ``want`` names; the features' in the accumulator dtype."""
    bias = head.bias is not None and want.bias
    hidden = jnp.zeros(head.hidden.shape, wide(head.hidden)) if want.hidden else None
    kernel = jnp.zeros_like(head.kernel) if want.kernel else None
    bias = jnp.zeros_like(head.bias) if bias else None
    return _Sums(Linear(hidden, kernel, bias), tuple(map(jnp.zeros_like, closed)))


def add_gradients(plan, sums, head, slopes, start, size) -> _Sums:
    """Adds a block's gradients, given those of its products and closed-over values.

    A block of the kernel's gradient is written once, where it is returned.
    """
    (g, d_closed), (hidden, kernel, bias) = slopes, sums.head
    if hidden is not None:
        part = columns_of(plan, head, start, size)
        hidden += features_gradient(g, part, transposed=plan.transposed)
    if kernel is not None:
        narrow, axis = g.astype(head.hidden.dtype), 0 if plan.transposed else 1
        a, b = (narrow, head.hidden) if plan.transposed else (head.hidden, narrow)
        new = jnp.matmul(a.T, b, preferred_element_type=wide(narrow))
        new = new.astype(kernel.dtype)
        kernel = jax.lax.dynamic_update_slice_in_dim(kernel, new, start, axis)
    if bias is not None:
        new = g.sum(0).astype(bias.dtype)
        bias = jax.lax.dynamic_update_slice_in_dim(bias, new, start, 0)
    closed = tuple(a + b for a, b in zip(sums.closed, d_closed, strict=True))
    return _Sums(Linear(hidden, kernel, bias), closed)


def finish_gradients(sums, head, want_closed) -> tuple[Linear, tuple]:
    """The accumulated gradients, cast to the dtypes of their operands."""
    hidden = sums.head.hidden
    if hidden is not None:
        hidden = hidden.astype(head.hidden.dtype)
    pairs = zip(sums.closed, want_closed, strict=True)
    closed = tuple(total if want else None for total, want in pairs)
    return sums.head._replace(hidden=hidden), closed


def elementwise(transform, dtype):
    """``transform(z, closed)``, and the closed-over values, which may want a gradient.

    It is applied to each logit as to a row of one class, so that the closure can be
    made once for blocks of every size.
    """
    if transform is None:
        return None, ()
    one = jax.ShapeDtypeStruct((1,), dtype)
    function, closed = jax.closure_convert(transform, one)
    if not closed:  # it may then be called on any mesh, and its values are known
        function = transform
        _sharding.run_trial(lambda: _check_elementwise(transform, dtype))

    def of_all(z, closed):
        each = lambda z: function(z[None], *closed)[0]  # noqa: E731
        return jax.vmap(jax.vmap(each))(z)

    return of_all, tuple(closed)


def _check_elementwise(transform, dtype):
    """Raises if a transform without traced constants is not elementwise."""
    row = jnp.linspace(-2, 3, 4, dtype=dtype)
    with jax.ensure_compile_time_eval():
        whole = transform(row)
        each = [transform(row[i : i + 1]) for i in range(4)]
    if whole.shape != (4,) or {e.shape for e in each} != {(1,)}:
        raise ValueError(
            f"transform made shape {whole.shape} of (4,), expected one logit for each"
        )
    if not numerics.is_concrete(whole):
        return
    each = np.concatenate(each)
    if not np.allclose(whole, each, atol=1e-3):
        raise ValueError(
            f"transform is not elementwise: of the row {row} it makes {whole}, of its "
            f"elements {each}; give such a link to linear_loss"
        )
