"""What a label's row of logits says, from a linear head that never makes the row.

The vocabulary is taken in blocks, and what has been seen of a row is kept as its top
score and the sum of exponentials below it: nothing small is added to something large,
so that a confident token is as exact as in :mod:`logitlab.numerics`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
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
    logits_of,
    wide,
)
from logitlab.heads.sharding import Static

__all__ = ["LabelStats", "label_stats", "linear_label_stats"]

FAR = 1e4  # below the top; exponentials are 0 from there on in every dtype


class LabelStats(NamedTuple):
    """What most losses need of a row of logits; one number of each kind per token.

    Attributes:
      log_prob: log-probability of the label, in nats.
      logsumexp: log of the sum of exponentials over all visible classes.
      entropy: of the softmax, in nats.
      logit_sum: sum of the logits of all visible classes.
      argmax: the class of the largest logit, the first of equals; without gradient.
    """

    log_prob: jax.Array
    logsumexp: jax.Array
    entropy: jax.Array
    logit_sum: jax.Array
    argmax: jax.Array


def label_stats(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> LabelStats:
    r"""The statistics of logits that exist: ``linear_loss(..., aux=label_stats)``.

    .. math:: \log p_y, \; \log \sum_c e^{z_c}, \; -\sum_c p_c \log p_c, \; \sum_c z_c,
        \; \mathrm{argmax}_c z_c

    Shapes: logits [..., C], labels [...], where [..., C] -> [...], [...], [...], [...],
        [...]

    Returns:
      A :class:`LabelStats` in float32 (float64 for float64 logits), nats.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` not
        bool.
      ValueError: shapes that do not fit, or a label out of range; under ``jit``, where
        values are unknown, the label's log-probability is NaN.

    Numerics: as :func:`linear_label_stats`.

    >>> label_stats(jnp.float32([40, 0]), 0).log_prob
    Array(-4.248354e-18, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    log_p = numerics.log_softmax(z)
    visible = z > -jnp.inf
    return LabelStats(
        -numerics.label_nll(z, labels),
        numerics.logsumexp(z),
        -jnp.sum(jnp.exp(log_p) * jnp.where(visible, log_p, 0), -1),
        jnp.sum(jnp.where(visible, z, 0), -1),
        jnp.argmax(z, -1).astype(jnp.int32),
    )


def linear_label_stats(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> LabelStats:
    r"""Log-probability of the label and its like, some columns of the head at a time.

    .. math:: z = t(h W + b), \quad \log p_y, \; \log \sum_c e^{z_c}, \;
        -\sum_c p_c \log p_c, \; \sum_c z_c, \; \mathrm{argmax}_c z_c

    No array of tokens times vocabulary exists, in neither direction: each block of
    columns is made, added to what is known of its rows, and forgotten; the gradient
    makes it again. Whatever is then computed from the statistics, one number per token,
    is ordinary JAX code with ordinary gradients. What the loss does not use costs
    nothing.

    Shapes: hidden [..., D], kernel [D, V], labels [...] -> [...], [...], [...], [...],
        [...]

    Args:
      hidden: features. 16-bit ones are multiplied as they are, with float32 sums.
      kernel: weights of the head.
      labels: ints in ``[0, V)``.
      bias: [V], or none.
      where: bool, [V] or [..., V], the classes that take part: a vocabulary that is
        padded to a round number, for instance. Hiding the label costs ``inf``.
      transform: elementwise, logits -> logits: a soft cap, a temperature,
        ``links.stablemax``. Values that it closes over get their gradients.
      transposed: the kernel is [V, D], as an embedding table that is used again.
      vocab_chunk: columns at a time; by default as many as make logits of 64 MiB.
      axis_name: the mesh axis, or axes, that the vocabulary is spread over. Under
        ``jit`` each device then works on its own columns, whether or not the mesh
        divides them; inside a ``shard_map`` ``kernel``, ``bias`` and ``where`` are the
        device's own. Known without being named where the sharding is known: for an
        explicit mesh, and outside ``jit``.
      batch_axes: under ``jit``, the mesh axes that the first axis of ``hidden`` is
        spread over; by default all others that divide it.

    Returns:
      A :class:`LabelStats`, float32 (float64 for float64 input), in nats.

    Raises:
      TypeError: ``hidden`` or ``kernel`` is not floating point, ``labels`` not integer.
      ValueError: shapes that do not fit together, a chunk below 1, an axis that is not
        in the mesh, a ``transform`` that is not elementwise, or a label out of range;
        under ``jit``, where values are unknown, its log-probability is NaN.

    Numerics: log-probabilities have a relative error below 1e-5, value and gradient,
      for margins up to 80, as those of dense logits. First derivatives only, in reverse
      mode.

    Source: online softmax, Milakov and Gimelshein 2018, arXiv:1805.02867; over a
      vocabulary, cut cross-entropy, Wijmans et al. 2024, arXiv:2411.09009; sharded,
      Shoeybi et al. 2019, arXiv:1909.08053.

    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> linear_label_stats(hidden, kernel, jnp.arange(6)).entropy[0]
    Array(2.3025851, dtype=float32)
    """
    batch = jnp.shape(hidden)[:-1]
    head = check_head(Linear(hidden, kernel, bias), batch, transposed=transposed)
    if vocab_chunk is not None:
        chunk_size("vocab_chunk", vocab_chunk, 1, 1)
    mesh = sharding.class_mesh(
        hidden, kernel, axis_name, batch_axes, transposed=transposed
    )
    classes = class_count(head, transposed=transposed)
    y, known = numerics.known_labels(labels, batch, classes * mesh.shards_inside)
    if where is not None:
        where = _check_where(where, batch, classes)
    function, closed = _elementwise(transform, wide(head.hidden, head.kernel))

    def local(hidden, kernel, bias, where, labels, closed):
        plan = _Plan(function, transposed, vocab_chunk, mesh.classes)
        return _stats(plan, Linear(hidden, kernel, bias), where, labels, closed)

    stats = sharding.run(
        local, mesh, hidden, kernel, bias, where, y, closed, transposed=transposed
    )
    return stats._replace(log_prob=jnp.where(known, stats.log_prob, jnp.nan))


class _Plan(NamedTuple):
    """How logits are changed, and how the work is cut."""

    transform: Callable | None
    transposed: bool
    vocab_chunk: int | None
    axis_name: tuple[str, ...]


class _Seen(NamedTuple):
    """What has been seen of some rows: their top and all below it; [N] each.

    ``1 + rest`` is the sum of exponentials measured from the top; -1 of no class.
    ``moment`` is the sum of exponentials times their logarithms.
    """

    top: jax.Array
    rest: jax.Array
    moment: jax.Array
    logit_sum: jax.Array
    score: jax.Array
    argmax: jax.Array


def _stats(plan, head, where, labels, closed):
    """The statistics of the rows that this device holds, differentiable."""
    batch = labels.shape
    head = Linear(head.hidden.reshape(-1, head.hidden.shape[-1]), *head[1:])
    if where is not None:
        where = where.reshape(-1, where.shape[-1])
    labels = labels.reshape(-1)
    # Everything varies over the same axes from here on; what did not before gets the
    # sum of its gradients over them, by the transpose of this line.
    head, where, labels, closed = sharding.vary_alike((head, where, labels, closed))

    @jax.custom_vjp
    def run(*operands):
        return _finish(_see(plan, *operands))

    def forward(*primals):
        is_primal = lambda p: isinstance(p, CustomVJPPrimal)  # noqa: E731
        take = lambda what: jax.tree.map(what, primals, is_leaf=is_primal)  # noqa: E731
        operands, wanted = take(lambda p: p.value), take(lambda p: p.perturbed)
        seen = _see(plan, *operands)
        return _finish(seen), (operands, seen, Static(wanted))

    def backward(kept, cotangents):
        slopes = [None if isinstance(c, SymbolicZero) else c for c in cotangents[:4]]
        return _gradients(plan, *kept, slopes)

    run.defvjp(forward, backward, symbolic_zeros=True)
    stats = run(head, where, labels, closed)
    return jax.tree.map(lambda a: a.reshape(batch), stats)


def _see(plan, head, where, labels, closed):
    """All of the vocabulary, block after block and device after device."""
    dtype, count = wide(head.hidden, head.kernel), len(labels)
    first = _first_class(plan, head)

    def add(seen, start, size):
        u, _ = _block(plan, head, where, closed, start, size)
        visible = u > -jnp.inf
        top = jnp.max(u, -1)
        below = numerics.below(u, _finite(top)[:, None])
        e = jnp.exp(below)
        ones = jnp.floor(e)  # the top and its equals; the rest is summed without them
        block = _Seen(
            top,
            jnp.sum(e - ones, -1) + (jnp.sum(ones, -1) - 1),
            jnp.sum(e * jnp.maximum(below, -FAR), -1),
            jnp.sum(jnp.where(visible, u, 0), -1),
            jnp.sum(jnp.where(_is_label(labels, first + start, size), u, 0), -1),
            first + start + jnp.argmax(u, -1).astype(jnp.int32),
        )
        pair = jax.tree.map(lambda *a: jnp.stack(a), seen, block)
        top = jnp.maximum(seen.top, top)
        return _merge(pair, top, lambda a: a.sum(0), lambda a: a.min(0))

    zero = jnp.zeros(count, dtype)
    none = _Seen(zero - jnp.inf, zero - 1, zero, zero, zero, zero.astype(jnp.int32))
    none, _ = sharding.vary_alike((none, head))
    seen = _over_blocks(plan, head, none, add)
    if not plan.axis_name:
        return seen
    top = jax.lax.pmax(seen.top, plan.axis_name)
    add_up = lambda a: jax.lax.psum(a, plan.axis_name)  # noqa: E731
    return _merge(seen, top, add_up, lambda a: jax.lax.pmin(a, plan.axis_name))


def _merge(parts, top, add_up, least):
    """Parts of the same rows as one, whose ``top`` is known; the lone top stays out."""
    shift = jnp.maximum(parts.top - _finite(top), -FAR)
    weight, total = jnp.exp(shift), 1 + parts.rest
    is_top = parts.top == top
    return _Seen(
        top,
        add_up(jnp.where(is_top, parts.rest, weight * total))
        + (add_up(is_top.astype(top.dtype)) - 1),
        add_up(weight * (parts.moment + shift * total)),
        add_up(parts.logit_sum),
        add_up(parts.score),
        least(jnp.where(is_top, parts.argmax, jnp.iinfo(jnp.int32).max)),
    )


def _finish(seen):
    log_total, nll, mean = _summary(seen)
    some = seen.top > -jnp.inf
    return LabelStats(
        -nll,
        seen.top + log_total,
        jnp.where(some, log_total - mean, 0),
        seen.logit_sum,
        seen.argmax,
    )


def _summary(seen):
    """Log of the sum measured from the top, the label's loss, and the mean score."""
    some = seen.top > -jnp.inf
    log_total = jnp.log1p(seen.rest)
    nll = jnp.where(some, log_total - (seen.score - seen.top), 0)
    return log_total, nll, seen.moment / jnp.where(some, 1 + seen.rest, 1)


def _gradients(plan, operands, seen, wanted, slopes):
    """What the slopes of log-probability, log-sum-exp, entropy and sum come to.

    With G for a class, p its probability, d its score below the top, T the mean of d:
    ``G = g_l ([label] - p) + g_lse p - g_H p (d - T) + g_S``. The label's ``1 - p`` is
    known without a subtraction.
    """
    (head, where, labels, closed), wanted = operands, wanted.value
    operands, seen, slopes = sharding.vary_alike((operands, seen, slopes))
    head, where, labels, closed = operands
    want, want_closed = wanted[0], wanted[3]
    _, nll, mean = _summary(seen)
    label, lse, entropy, plain = slopes
    zero = jnp.zeros_like(nll)
    level = zero if lse is None else lse
    tilt = None
    if entropy is not None:
        level, tilt = level + entropy * mean, -entropy
    others = level if label is None else level - label
    over = (1 / (1 + seen.rest))[:, None]
    first = _first_class(plan, head)

    def add(sums, start, size):
        u, pull = _block(plan, head, where, closed, start, size)
        below = numerics.below(u, _finite(seen.top)[:, None])
        p = jnp.exp(below) * over
        ramp = 0 if tilt is None else tilt[:, None] * jnp.maximum(below, -FAR)
        g = p * (others[:, None] + ramp)
        if label is not None:
            own = p * (level[:, None] + ramp) - (label * jnp.expm1(-nll))[:, None]
            g = jnp.where(_is_label(labels, first + start, size), own, g)
        if plain is not None:
            g = g + plain[:, None]
        g = jnp.where(u > -jnp.inf, g, 0)
        g, d_closed = pull(g)
        d_hidden, d_kernel, d_bias, total = sums
        if want.hidden:
            part = _columns(plan, head, start, size)
            d_hidden += features_gradient(g, part, transposed=plan.transposed)
        if want.kernel:
            g16 = g.astype(head.hidden.dtype)
            a, b = (g16, head.hidden) if plan.transposed else (head.hidden, g16)
            new = jnp.matmul(a.T, b, preferred_element_type=wide(g16))
            axis = 0 if plan.transposed else 1
            d_kernel = jax.lax.dynamic_update_slice_in_dim(
                d_kernel, new.astype(d_kernel.dtype), start, axis
            )
        if head.bias is not None and want.bias:
            new = g.sum(0).astype(d_bias.dtype)
            d_bias = jax.lax.dynamic_update_slice_in_dim(d_bias, new, start, 0)
        total = tuple(a + b for a, b in zip(total, d_closed, strict=True))
        return d_hidden, d_kernel, d_bias, total

    start = (
        jnp.zeros(head.hidden.shape, wide(head.hidden)) if want.hidden else None,
        jnp.zeros_like(head.kernel) if want.kernel else None,
        jnp.zeros_like(head.bias) if head.bias is not None and want.bias else None,
        tuple(jnp.zeros_like(c) for c in closed),
    )
    start, _ = sharding.vary_alike((start, operands))
    d_hidden, d_kernel, d_bias, d_closed = _over_blocks(plan, head, start, add)
    if d_hidden is not None:
        d_hidden = d_hidden.astype(head.hidden.dtype)
    d_closed = tuple(
        d if w else None for d, w in zip(d_closed, want_closed, strict=True)
    )
    return Linear(d_hidden, d_kernel, d_bias), None, None, d_closed


def _over_blocks(plan, head, carry, function):
    """``function(carry, start, size)`` for all blocks of columns; the last is short."""
    classes = class_count(head, transposed=plan.transposed)
    default = BUDGET // (4 * max(len(head.hidden), 1))
    size = chunk_size("vocab_chunk", plan.vocab_chunk, default, classes)
    full, rest = divmod(classes, size)
    if full == 1:
        carry = function(carry, 0, size)
    else:
        carry = jax.lax.fori_loop(
            0, full, lambda i, carry: function(carry, i * size, size), carry
        )
    return function(carry, full * size, rest) if rest else carry


def _block(plan, head, where, closed, start, size):
    """Logits of a block of columns, and what pulls their slopes back to the products.

    Hidden classes are at ``-inf`` after the transform: a soft cap would lift them.
    """
    head = _columns(plan, head, start, size)
    z = logits_of(head, transposed=plan.transposed)
    if plan.transform is None:
        u, pull = z, lambda g: (g, ())
    else:
        u, back = jax.vjp(plan.transform, z, closed)
        pull = lambda g: back(g.astype(u.dtype))  # noqa: E731
    if where is not None:
        seen = jax.lax.dynamic_slice_in_dim(where, start, size, -1)
        u = jnp.where(seen, u, -jnp.inf)
    return u, pull


def _columns(plan, head, start, size):
    cut = jax.lax.dynamic_slice_in_dim
    bias = None if head.bias is None else cut(head.bias, start, size)
    kernel = cut(head.kernel, start, size, 0 if plan.transposed else 1)
    return Linear(head.hidden, kernel, bias)


def _first_class(plan, head):
    """Number of the first class that this device holds."""
    if not plan.axis_name:
        return 0
    classes = class_count(head, transposed=plan.transposed)
    return jax.lax.axis_index(plan.axis_name) * classes


def _is_label(labels, first, size):
    classes = jax.lax.broadcasted_iota(labels.dtype, (len(labels), size), 1)
    return classes == (labels - first)[:, None]


def _finite(top):
    """The top, 0 of rows of which nothing is visible."""
    return jnp.where(top == -jnp.inf, 0, top)


def _check_where(where, batch, classes):
    """The bool array of visible classes, [1, V] or [..., V]."""
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where has dtype {where.dtype}, expected bool")
    if where.shape not in ((classes,), (*batch, classes)):
        raise ValueError(
            f"where has shape {where.shape}, expected {(classes,)} or "
            f"{(*batch, classes)}"
        )
    return where


def _elementwise(transform, dtype):
    """``transform(z, closed)`` and what it closes over, which may want a gradient.

    It is applied to each logit as to a row of one class, so that the closure can be
    made once for blocks of every size.
    """
    if transform is None:
        return None, ()
    _check_elementwise(transform, dtype)
    one = jax.ShapeDtypeStruct((1,), dtype)
    function, closed = jax.closure_convert(transform, one)

    def of_all(z, closed):
        each = lambda z: function(z[None], *closed)[0]  # noqa: E731
        return jax.vmap(jax.vmap(each))(z)

    return of_all, tuple(closed)


def _check_elementwise(transform, dtype):
    """Compares a row with its elements, where the transform's constants are known."""
    row = jnp.linspace(-2, 3, 4, dtype=dtype)
    with jax.ensure_compile_time_eval():
        whole = transform(row)
        each = [transform(row[i : i + 1]) for i in range(4)]
    if whole.shape != (4,) or {e.shape for e in each} != {(1,)}:
        raise ValueError(
            f"transform made shape {whole.shape} of (4,), expected one logit for each"
        )
    each = jnp.concatenate(each)
    if numerics.is_known(whole) and not jnp.allclose(whole, each, atol=1e-3):
        raise ValueError(
            f"transform is not elementwise: of the row {row} it makes {whole}, of its "
            f"elements {each}; give such a link to linear_loss"
        )
