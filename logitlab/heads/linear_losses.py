"""Any loss of a linear head's logits, without materializing all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._operands import (
    Linear,
    check_head,
    chunk_size,
    class_count,
    is_float,
    leading_axes,
    takes_no_mask,
)
from logitlab.heads._token_chunks import Plan, logits_like, of_tokens

__all__ = ["linear_loss"]


@overload
def linear_loss(
    loss: Callable,
    hidden: ArrayLike,
    kernel: ArrayLike,
    *arrays: ArrayLike | Linear,
    bias: ArrayLike | None = ...,
    weights: ArrayLike | None = ...,
    transform: Callable[[jax.Array], jax.Array] | None = ...,
    transposed: bool = ...,
    aux: None = ...,
    token_chunk: int | None = ...,
    vocab_chunk: int | None = ...,
    axis_name: str | tuple[str, ...] | None = ...,
    batch_axes: str | tuple[str, ...] | None = ...,
) -> jax.Array: ...
@overload
def linear_loss(
    loss: Callable,
    hidden: ArrayLike,
    kernel: ArrayLike,
    *arrays: ArrayLike | Linear,
    bias: ArrayLike | None = ...,
    weights: ArrayLike | None = ...,
    transform: Callable[[jax.Array], jax.Array] | None = ...,
    transposed: bool = ...,
    aux: Callable,
    token_chunk: int | None = ...,
    vocab_chunk: int | None = ...,
    axis_name: str | tuple[str, ...] | None = ...,
    batch_axes: str | tuple[str, ...] | None = ...,
) -> tuple[jax.Array, Any]: ...
@takes_no_mask(
    "weights= leaves tokens out of a weighted mean: weights=mask.astype(hidden.dtype)"
)
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
    r"""Loss of ``hidden @ kernel + bias`` and its gradient, in chunks of tokens.

    Use it for any loss whose logits array does not fit into memory.

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
      loss: ``(logits, *arrays)`` -> one number for each token. Values that it closes
        over get their gradients too; on an explicit mesh, traced ones raise.
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
        last chunk may be shorter, nothing is padded. Not traced, as it is a shape.
      vocab_chunk: columns of the kernel's gradient that are added to at a time; by
        default as many as make 64 MiB. Not traced either.
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

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import linear_loss
    >>> from logitlab import losses
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> linear_loss(losses.cross_entropy, hidden, kernel, jnp.arange(6)).shape
    (6,)
    """
    heads, rows, batch = _operands(hidden, kernel, bias, arrays, transposed)
    for name, size in (("token_chunk", token_chunk), ("vocab_chunk", vocab_chunk)):
        chunk_size(name, size, 1, 1)
    if weights is not None:
        weights = numerics.promote_to_float32(weights, "weights")
        if weights.shape != batch:
            raise ValueError(f"weights has shape {weights.shape}, expected {batch}")
    place = _sharding.class_mesh(
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

    named = {f"arrays[{i}]": a for i, a in enumerate(arrays)}
    numerics.check_devices(hidden=heads[0].hidden, **named)
    _check_labels(of_some, heads, rows, weights, transposed)
    cut = Plan({}, transposed, token_chunk, vocab_chunk, place)
    out, more = _sharding.run_tokens(
        functools.partial(of_tokens, cut, of_some),
        place,
        (heads, rows, weights),
        mean=weights is not None,
    )
    return out if aux is None else (out, more)


def _operands(hidden, kernel, bias, arrays, transposed):
    """The checked heads and other arrays, and their leading axes."""
    batch = leading_axes(hidden)
    first = Linear(hidden, kernel, bias)
    heads, rows = [check_head(first, batch, transposed=transposed)], []
    for i, array in enumerate(arrays):
        if isinstance(array, Linear):
            name = f"arrays[{i}]."
            heads.append(check_head(array, batch, transposed=transposed, name=name))
            continue
        numerics.check_is_array(array, f"arrays[{i}]")
        rows.append(_row_array(array, f"arrays[{i}]", batch))
    return tuple(heads), tuple(rows), batch


def _row_array(array, name, batch):
    """A JAX array; NumPy's 64-bit integers are clipped, so that none wraps."""
    head = "; a head is heads.Linear(hidden, kernel, bias)"
    try:
        rows = _narrow(array)
    except (TypeError, ValueError):
        kind = type(array).__name__
        raise TypeError(f"{name} is of type {kind}, expected an array{head}") from None
    if rows.shape[: len(batch)] != batch:
        hint = head if isinstance(array, tuple) else ""
        raise ValueError(
            f"{name} has shape {rows.shape}, expected the leading axes of hidden, "
            f"{batch}{hint}"
        )
    return rows


def _narrow(array):
    if not isinstance(array, jax.Array) and not jax.config.jax_enable_x64:
        array = np.asarray(array)
        if array.dtype.kind in "iu" and array.dtype.itemsize > 4:
            bounds = np.iinfo(np.int32)
            array = array.clip(bounds.min if array.dtype.kind == "i" else 0, bounds.max)
    return jnp.asarray(array)


def _check_labels(of_some, heads, rows, weights, transposed):
    """Lets the loss raise for concrete labels of V or more.

    Inside the chunks they are unknown to it. It may know better: thresholds of an
    ordinal loss are one fewer than its classes.
    """
    classes, bad = class_count(heads[0], transposed=transposed), None
    batch = heads[0].hidden.shape[:-1]
    for labels in rows:
        if (
            is_float(labels)
            or labels.shape != batch
            or not numerics.is_concrete(labels)
        ):
            continue
        beyond = np.asarray(labels) >= classes
        bad = beyond if bad is None else bad | beyond
    if bad is None:
        return
    if weights is not None:
        if not numerics.is_concrete(weights):
            return
        bad &= np.asarray(weights) > 0
    some = np.flatnonzero(bad)[:5]
    if some.size:
        logits = (logits_like(head, some.size, transposed) for head in heads)
        where = np.unravel_index(some, batch)
        of_some([jnp.zeros(z.shape, z.dtype) for z in logits], [a[where] for a in rows])
