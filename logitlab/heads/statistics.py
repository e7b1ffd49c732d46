"""What a label's row of logits says, from a linear head that never makes the row.

The vocabulary is taken in blocks, and what has been seen of a row is kept as its top
score and the sum of exponentials below it: nothing small is added to something large,
so that a confident token is as exact as in :mod:`logitlab.numerics`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import sharding
from logitlab.heads.blocks import (
    FAR,
    Blocks,
    add_gradients,
    block_of,
    elementwise,
    finish_gradients,
    first_class,
    is_label,
    no_gradients,
    over_blocks,
)
from logitlab.heads.operands import (
    Linear,
    check_head,
    chunk_size,
    class_count,
    values_and_wanted,
    wide,
)
from logitlab.heads.sharding import Static

__all__ = ["LabelStats", "label_stats", "linear_label_stats"]


class LabelStats(NamedTuple):
    """What most losses need of a row of logits; one number of each kind per token.

    Attributes:
      log_prob: log-probability of the label, in nats.
      logsumexp: log of the sum of exponentials over all visible classes.
      entropy: of the softmax, in nats.
      logit_sum: sum of the logits of all visible classes, each with its weight.
      nll_sum: the same sum of their negative log-probabilities, for label smoothing.
      classes: how many classes are visible; without gradient, as all that follows.
      label_weight: the label's class weight; 1 without such weights.
      argmax: the class of the largest logit, the first of equals.
    """

    log_prob: jax.Array
    logsumexp: jax.Array
    entropy: jax.Array
    logit_sum: jax.Array
    nll_sum: jax.Array
    classes: jax.Array
    label_weight: jax.Array
    argmax: jax.Array


def label_stats(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> LabelStats:
    r"""The statistics of logits that exist: ``linear_loss(..., aux=label_stats)``.

    .. math:: \log p_y, \; \log \sum_c e^{z_c}, \; -\sum_c p_c \log p_c, \;
        \sum_c w_c z_c, \; -\sum_c w_c \log p_c

    and what :class:`LabelStats` says more.

    Args:
      logits: [..., C], scores; ``-inf`` is the same as ``where=False``.
      labels: [...], ints in ``[0, C)``.
      class_weight: [C], weights of the two sums, without gradient; by default 1.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      A :class:`LabelStats` of shape [...], float32 (float64 for float64 logits).

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
    y, known = numerics.known_labels(labels, z.shape[:-1], z.shape[-1])
    log_p, visible = numerics.log_softmax(z), z > -jnp.inf
    each = jnp.ones(z.shape[-1], z.dtype)
    if class_weight is not None:
        each = _check_class_weight(class_weight, z.shape[-1]).astype(z.dtype)
    each = jax.lax.stop_gradient(each)
    weights = jnp.where(visible, jnp.expand_dims(each, range(z.ndim - 1)), 0)
    finite = jnp.where(visible, log_p, 0)
    return LabelStats(
        jnp.where(known, -numerics.label_nll(z, y), jnp.nan),
        numerics.logsumexp(z),
        -jnp.sum(jnp.exp(log_p) * finite, -1),
        jnp.sum(weights * jnp.where(visible, z, 0), -1),
        -jnp.sum(weights * finite, -1),
        jnp.sum(visible, -1, dtype=z.dtype),
        each[y],
        jnp.argmax(z, -1).astype(jnp.int32),
    )


def linear_label_stats(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> LabelStats:
    r"""Log-probability of the label and its like, some columns of the head at a time.

    .. math:: z = t(h W + b), \quad \log p_y, \; \log \sum_c e^{z_c}, \;
        -\sum_c p_c \log p_c, \; \sum_c w_c z_c, \; -\sum_c w_c \log p_c

    No array of tokens times vocabulary exists, in neither direction: each block of
    columns is made, added to what is known of its rows, and forgotten; the gradient
    makes it again. Whatever is then computed from the statistics, one number per token,
    is ordinary JAX code with ordinary gradients. What the loss does not use costs
    nothing.

    Args:
      hidden: [..., D], features. 16-bit ones are multiplied as they are, with float32
        sums.
      kernel: [D, V], weights of the head.
      labels: [...], ints in ``[0, V)``.
      bias: [V], or none.
      where: bool, [V] or [..., V], the classes that take part: a vocabulary that is
        padded to a round number, for instance. Hiding the label costs ``inf``.
      class_weight: [V], weights of ``logit_sum`` and ``nll_sum``; by default 1. They
        get no gradient, and raise if one is asked for.
      transform: elementwise, logits -> logits: a soft cap, a temperature,
        ``links.stablemax``. Values that it closes over get their gradients.
      transposed: the kernel is [V, D], as an embedding table that is used again.
      vocab_chunk: columns at a time; by default as many as make logits of 32 MiB.
      axis_name: the mesh axis, or axes, that the vocabulary is spread over. Under
        ``jit`` each device then works on its own columns, whether or not the mesh
        divides them; inside a ``shard_map`` ``kernel``, ``bias`` and ``where`` are the
        device's own. Known without being named where the sharding is known: for an
        explicit mesh, and outside ``jit``.
      batch_axes: under ``jit``, the mesh axes that the first axis of ``hidden`` is
        spread over; by default all others that divide it.

    Returns:
      A :class:`LabelStats` of shape [...], float32 (float64 for float64 input), in
      nats.

    Raises:
      TypeError: ``hidden`` or ``kernel`` is not floating point, ``labels`` not integer.
      ValueError: shapes that do not fit together, a chunk below 1, an axis that is not
        in the mesh, a ``transform`` that is not elementwise, or a label out of range;
        under ``jit``, where values are unknown, its log-probability is NaN.

    Numerics: log-probabilities have a relative error below 1e-5, value and gradient,
      for margins up to 80, as those of dense logits. Reverse mode only, of higher
      orders too.

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
        where = check_where(where, batch, classes)
    if class_weight is not None:
        class_weight = _check_class_weight(class_weight, classes)
    function, closed = elementwise(transform, wide(head.hidden, head.kernel))
    plan = Blocks(function, transposed, vocab_chunk, mesh.classes)
    columns = sharding.Columns(where, class_weight)
    stats = sharding.run(
        lambda *operands: _stats(plan, *operands),
        mesh,
        (Linear(hidden, kernel, bias), columns, y, closed),
        transposed=transposed,
    )
    return stats._replace(log_prob=jnp.where(known, stats.log_prob, jnp.nan))


class _Seen(NamedTuple):
    """What has been seen of some rows: their top and all below it; [N] each.

    ``1 + rest`` is the sum of exponentials measured from the top; -1 of no class.
    ``moment`` is the sum of exponentials times their logarithms, ``depth`` the weighted
    sum of the logits measured from the top, ``mass`` the sum of the weights.
    """

    top: jax.Array
    rest: jax.Array
    moment: jax.Array
    depth: jax.Array
    mass: jax.Array
    classes: jax.Array
    score: jax.Array
    label_weight: jax.Array
    argmax: jax.Array


def _stats(plan, head, columns, labels, closed):
    """The statistics of the rows that this device holds, differentiable."""
    batch = labels.shape
    head = head._replace(hidden=head.hidden.reshape(-1, head.hidden.shape[-1]))
    if columns.where is not None:
        where = columns.where.reshape(-1, columns.where.shape[-1])
        columns = columns._replace(where=where)
    # Everything varies over the same axes from here on; what did not before gets the
    # sum of its gradients over them, by the transpose of this line.
    operands = sharding.vary_alike((head, columns, labels.reshape(-1), closed))

    @jax.custom_vjp
    def run(*operands):
        return _finish(see(plan, *operands))

    def forward(*primals):
        operands, wanted = values_and_wanted(primals)
        if wanted[1].class_weight:
            raise ValueError("class_weight gets no gradient; stop_gradient it")
        seen = see(plan, *operands)
        return _finish(seen), (operands, seen, Static(wanted))

    def backward(kept, cotangents):
        slopes = [None if isinstance(c, SymbolicZero) else c for c in cotangents[:5]]
        return _gradients(plan, *kept, slopes)

    run.defvjp(forward, backward, symbolic_zeros=True)
    stats = run(*operands)
    return jax.tree.map(lambda a: a.reshape(batch), stats)


def see(plan, head, columns, labels, closed):
    """All of the vocabulary, block after block and device after device."""
    dtype, count = wide(head.hidden, head.kernel), len(labels)
    first = first_class(plan, head)

    def add(seen, start, size):
        u, each, _ = block_of(plan, head, columns, closed, start, size)
        visible = u > -jnp.inf
        top = jnp.max(u, -1)
        below = numerics.below(u, finite_top(top)[:, None])
        e = jnp.exp(below)
        mine = is_label(labels, first + start, size)
        ones = jnp.floor(e)  # the top and its equals; the rest is summed without them
        block = _Seen(
            top,
            jnp.sum(e - ones, -1) + (jnp.sum(ones, -1) - 1),
            jnp.sum(e * jnp.maximum(below, -FAR), -1),
            jnp.sum(jnp.where(visible, below, 0) * each, -1),
            jnp.sum(visible * each, -1),
            jnp.sum(visible, -1, dtype=dtype),
            jnp.sum(jnp.where(mine, u, 0), -1),
            jnp.sum(mine * each, -1),
            first + start + jnp.argmax(u, -1).astype(jnp.int32),
        )
        return _merge([seen, block], jnp.maximum(seen.top, top))

    zero = jnp.zeros(count, dtype)
    none = _Seen(zero - jnp.inf, zero - 1, *[zero] * 6, zero.astype(jnp.int32))
    none, _ = sharding.vary_alike((none, head))
    seen = over_blocks(plan, head, none, add)
    if not plan.axis_name:
        return seen
    top = jax.lax.pmax(seen.top, plan.axis_name)
    return _merge([seen], top, plan.axis_name)


def _merge(parts, top, axis_name=()):
    """Parts of the same rows, of all devices, as one; the lone ``top`` stays out."""

    def add_up(what):
        total = sum(map(what, parts))
        return jax.lax.psum(total, axis_name) if axis_name else total

    def scaled(part):
        shift = jnp.maximum(part.top - finite_top(top), -FAR)
        return jnp.exp(shift), shift, 1 + part.rest

    def rest(part):
        weight, _, total = scaled(part)
        return jnp.where(part.top == top, part.rest, weight * total)

    def moment(part):
        weight, shift, total = scaled(part)
        return weight * (part.moment + shift * total)

    def depth(part):
        some = part.top > -jnp.inf
        return jnp.where(some, part.depth + (part.top - finite_top(top)) * part.mass, 0)

    none = jnp.iinfo(jnp.int32).max
    first = [jnp.where(part.top == top, part.argmax, none) for part in parts]
    first = functools.reduce(jnp.minimum, first)
    return _Seen(
        top,
        add_up(rest) + (add_up(lambda part: (part.top == top).astype(top.dtype)) - 1),
        add_up(moment),
        add_up(depth),
        add_up(lambda part: part.mass),
        add_up(lambda part: part.classes),
        add_up(lambda part: part.score),
        add_up(lambda part: part.label_weight),
        jax.lax.pmin(first, axis_name) if axis_name else first,
    )


def _finish(seen):
    log_total, nll, mean = _summary(seen)
    some = seen.top > -jnp.inf
    return LabelStats(
        -nll,
        seen.top + log_total,
        jnp.where(some, log_total - mean, 0),
        seen.depth + seen.mass * finite_top(seen.top),
        jnp.where(some, seen.mass * log_total - seen.depth, 0),
        seen.classes,
        seen.label_weight,
        seen.argmax,
    )


def _summary(seen):
    """Log of the sum measured from the top, the label's loss, and the mean score."""
    some = seen.top > -jnp.inf
    log_total = jnp.log1p(seen.rest)
    nll = jnp.where(some, log_total - (seen.score - seen.top), 0)
    return log_total, nll, seen.moment / jnp.where(some, 1 + seen.rest, 1)


def _gradients(plan, operands, seen, wanted, slopes):
    """What the slopes of the five statistics come to.

    With p a class's probability, w its weight, d its score below the top and T the mean
    of d, the slope of its logit is
    ``g_l ([label] - p) + g_lse p - g_H p (d - T) + g_S w + g_N (p sum(w) - w)``.
    The label's ``1 - p`` is known without a subtraction.
    """
    want, _, _, want_closed = wanted.value
    operands, seen, slopes = sharding.vary_alike((operands, seen, slopes))
    head, columns, labels, closed = operands
    _, nll, mean = _summary(seen)
    label, lse, entropy, plain, nll_sum = slopes
    zero = jnp.zeros_like(nll)
    level = zero if lse is None else lse
    tilt = None
    if entropy is not None:
        level, tilt = level + entropy * mean, -entropy
    if nll_sum is not None:
        level = level + nll_sum * seen.mass
        plain = -nll_sum if plain is None else plain - nll_sum
    others = level if label is None else level - label
    over = (1 / (1 + seen.rest))[:, None]
    first = first_class(plan, head)

    def add(sums, start, size):
        u, each, pull = block_of(plan, head, columns, closed, start, size)
        below = numerics.below(u, finite_top(seen.top)[:, None])
        p = jnp.exp(below) * over
        ramp = 0 if tilt is None else tilt[:, None] * jnp.maximum(below, -FAR)
        g = p * (others[:, None] + ramp)
        if label is not None:
            own = p * (level[:, None] + ramp) - (label * jnp.expm1(-nll))[:, None]
            g = jnp.where(is_label(labels, first + start, size), own, g)
        if plain is not None:
            g = g + plain[:, None] * each
        g = jnp.where(u > -jnp.inf, g, 0)
        return add_gradients(plan, sums, head, pull(g), start, size)

    start = no_gradients(head, want, closed)
    start, _ = sharding.vary_alike((start, operands))
    sums = over_blocks(plan, head, start, add)
    head, closed = finish_gradients(sums, head, want_closed)
    return head, None, None, closed


def finite_top(top):
    """The top, 0 of rows of which nothing is visible."""
    return jnp.where(top == -jnp.inf, 0, top)


def _check_class_weight(class_weight, classes):
    class_weight = numerics.promote(class_weight, "class_weight")
    if class_weight.shape != (classes,):
        raise ValueError(
            f"class_weight has shape {class_weight.shape}, expected ({classes},)"
        )
    return class_weight


def check_where(where, batch, classes):
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
