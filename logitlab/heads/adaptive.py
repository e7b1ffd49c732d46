"""Adaptive softmax: a short list of frequent classes, clusters of rare ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _gathered
from logitlab.heads._operands import BUDGET, chunk_size, product

__all__ = [
    "adaptive_capacity",
    "adaptive_full_log_probs",
    "adaptive_log_prob",
    "adaptive_predict",
    "adaptive_softmax",
    "adaptive_softmax_init",
]


def adaptive_log_prob(
    head_logits: ArrayLike,
    tail_logits: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    cutoffs: Sequence[int],
) -> jax.Array:
    r"""Log-probability of a class under adaptive softmax: direct or by cluster.

    .. math:: \log p_y = \begin{cases} \log \mathrm{softmax}(a)_y & y < c_1 \\
        \log \mathrm{softmax}(a)_{c_1 + i} + \log \mathrm{softmax}(t_i)_{y - c_{i+1}}
        & c_{i+1} \le y < c_{i+2} \end{cases}

    with head logits a, logits :math:`t_i` of cluster i = 0, ..., k - 1, classes sorted
    by falling frequency and :math:`c_{k+1} = V`. The probabilities add up to 1.

    Shapes: head_logits [..., H], labels [...] -> [...]

    Args:
      head_logits: [..., c_1 + k]: the short list, then one for each cluster.
      tail_logits: k arrays [..., V_i]. What those of a cluster hold, NaN included, is
        looked at only where the label is in it.
      labels: ints in ``[0, V)``.
      cutoffs: :math:`c_1 < \dots < c_k`, where the clusters begin, without V; not
        traced, as they are shapes.

    Returns:
      Nats, float32 (float64 for float64 logits), without the class axis.

    Raises:
      TypeError: logits that are not floating point, ``labels`` that are not integer.
      ValueError: cutoffs that do not rise from 1 on, shapes that do not fit them, or a
        label out of range; under ``jit``, where values are unknown, such a label gives
        NaN, never another class's number.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Grave et al. 2017, arXiv:1609.04309.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import adaptive_log_prob
    >>> head, tails = jnp.zeros(3), [jnp.zeros(4)]  # 2 frequent classes, 4 others
    >>> print(f"{jnp.exp(adaptive_log_prob(head, tails, 5, cutoffs=(2,))):.4f}")
    0.0833
    """
    head, tails = _logits(head_logits, tail_logits, cutoffs)
    cutoffs, count = _bounds(cutoffs, [tail.shape[-1] for tail in tails])
    y, known = numerics.check_labels(labels, head.shape[:-1], count)
    log_p = -numerics.label_nll(head, _head_labels(y, cutoffs))
    for tail, (start, end) in zip(
        tails, itertools.pairwise([*cutoffs, count]), strict=True
    ):
        inside = (y >= start) & (y < end)
        tail = jnp.where(inside[..., None], tail, 0)
        nll = numerics.label_nll(tail, jnp.where(inside, y - start, 0))
        log_p = log_p - jnp.where(inside, nll, 0)
    return jnp.where(known, log_p, jnp.nan)


def adaptive_full_log_probs(
    head_logits: ArrayLike,
    tail_logits: Sequence[ArrayLike],
    *,
    cutoffs: Sequence[int],
) -> jax.Array:
    r"""Log-probabilities of all classes, see :func:`adaptive_log_prob`.

    Shapes: head_logits [..., H] -> [..., V]

    Args:
      head_logits: [..., c_1 + k]: the short list, then one for each cluster.
      tail_logits: k arrays [..., V_i].
      cutoffs: where the clusters begin, without V.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: logits that are not floating point.
      ValueError: cutoffs that do not rise from 1 on, or shapes that do not fit them.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Grave et al. 2017, arXiv:1609.04309.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import adaptive_full_log_probs
    >>> log_p = adaptive_full_log_probs(jnp.zeros(3), [jnp.zeros(2)], cutoffs=(2,))
    >>> print(*(f"{p:.3f}" for p in jnp.exp(log_p)))
    0.333 0.333 0.167 0.167
    """
    head, tails = _logits(head_logits, tail_logits, cutoffs)
    first, log_p = cutoffs[0], numerics.log_softmax(head)
    parts = [log_p[..., :first]]
    for i, tail in enumerate(tails, first):
        parts.append(log_p[..., i : i + 1] + numerics.log_softmax(tail))
    return jnp.concatenate(parts, -1)


def adaptive_softmax(
    hidden: ArrayLike,
    head: ArrayLike,
    tails: Sequence[tuple[ArrayLike, ArrayLike]],
    labels: ArrayLike,
    *,
    cutoffs: Sequence[int],
    bias: ArrayLike | None = None,
    capacity: Sequence[int] | None = None,
) -> jax.Array:
    r"""Negative log-likelihood of a head whose rare classes have narrow kernels.

    Use it for a large vocabulary with a few very frequent tokens.

    .. math:: \ell = -\log p_y \text{ of } a = h A + b, \quad t_i = (h D_i) U_i

    in :func:`adaptive_log_prob`. By default every cluster is computed for every token
    and the label's is selected. With ``capacity`` only tokens whose label is in a
    cluster are, gathered into a buffer of so many rows; those that do not fit go
    through further buffers, which cost nothing where there are none. The numbers are
    the same. Under ``vmap`` all buffers are computed, and over tokens spread on a mesh
    gathering communicates: take the default there, or ``shard_map``.

    Shapes: hidden [..., D], head [D, H], labels [...] -> [...]

    Args:
      hidden: features. 16-bit ones are multiplied as they are, with float32 sums.
      head: [D, c_1 + k]: kernels of the short list, then one for each cluster.
      tails: k pairs of a projection down [D, D_i] and up [D_i, V_i], without bias.
      labels: ints in ``[0, V)``, sorted by falling frequency.
      cutoffs: where the clusters begin, without V.
      bias: of the head, [c_1 + k], or none.
      capacity: k numbers of rows, from :func:`adaptive_capacity`; not traced, as they
        are shapes.

    Returns:
      Nats, one number for each token, float32 (float64 for float64 features).

    Raises:
      TypeError: floating point arguments that are not, ``labels`` that are not integer.
      ValueError: cutoffs that do not rise from 1 on, shapes that do not fit them,
        capacities that are not k numbers from 1 on, or a label of C or more, which
        gives NaN under ``jit``.

    Numerics: relative error below 1e-5 of what the logits give, for margins up to 80.

    Source: Grave et al. 2017, arXiv:1609.04309.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.heads import adaptive_softmax, adaptive_softmax_init
    >>> head, tails = adaptive_softmax_init(jax.random.key(0), 8, 100, cutoffs=(10, 40))
    >>> h, y = jnp.ones((3, 8)), jnp.array([0, 20, 99])
    >>> loss = jax.jit(adaptive_softmax, static_argnames="cutoffs")
    >>> loss(h, head, tails, y, cutoffs=(10, 40)).shape
    (3,)
    """
    h, batch = _gathered.tokens(hidden)
    head, tails, bias = _kernels(h.shape[1], head, tails, bias, cutoffs)
    cutoffs, count = _bounds(cutoffs, [up.shape[1] for _, up in tails])
    y, known = numerics.check_labels(labels, batch, count)
    if capacity is not None and (len(capacity) != len(tails) or min(capacity) < 1):
        raise ValueError(
            f"capacity is {capacity}, expected {len(tails)} numbers from 1 on"
        )
    y, head_logits = y.reshape(-1), product(h, head, bias)
    if capacity is None or not len(y):
        tail_logits = [_tail(h, *pair) for pair in tails]
        nll = -adaptive_log_prob(head_logits, tail_logits, y, cutoffs=cutoffs)
    else:
        nll = numerics.label_nll(head_logits, _head_labels(y, cutoffs))
        spans = itertools.pairwise([*cutoffs, count])
        for pair, (start, end), size in zip(tails, spans, capacity, strict=True):

            def of_rows(h, label, pair=pair):
                return numerics.label_nll(_tail(h, *pair), label)

            inside = (y >= start) & (y < end)
            nll += _in_buffers(of_rows, inside, (h, y - start), size)
    return jnp.where(known, nll.reshape(batch), jnp.nan)


def adaptive_predict(
    hidden: ArrayLike,
    head: ArrayLike,
    tails: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    cutoffs: Sequence[int],
    bias: ArrayLike | None = None,
    token_chunk: int | None = None,
) -> jax.Array:
    """The most probable class of the head of :func:`adaptive_softmax`.

    Where the head's largest logit is in the short list that is it: no class of a
    cluster is more probable than its cluster. Only the other tokens need all
    log-probabilities; they are gathered and taken ``token_chunk`` at a time.

    Shapes: hidden [..., D], head [D, H] -> [...]

    Args:
      hidden: features.
      head: [D, c_1 + k], as in :func:`adaptive_softmax`, like the others.
      tails: k pairs of projections.
      cutoffs: where the clusters begin, without V.
      bias: of the head, or none.
      token_chunk: by default as many tokens as have log-probabilities of 64 MiB; not
        traced, as it is a shape.

    Returns:
      int32 classes in ``[0, V)``; of equally probable ones the first.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: cutoffs that do not rise from 1 on, shapes that do not fit them, or a
        chunk below 1.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.heads import adaptive_predict
    >>> head, tails = jnp.array([[0.0, 1, 2]]), [(jnp.ones((1, 1)), jnp.eye(1, 2))]
    >>> predict = jax.jit(adaptive_predict, static_argnames="cutoffs")
    >>> predict(jnp.array([[1.0], [-1.0]]), head, tails, cutoffs=(2,))
    Array([2, 0], dtype=int32)
    """
    h, batch = _gathered.tokens(hidden)
    head, tails, bias = _kernels(h.shape[1], head, tails, bias, cutoffs)
    cutoffs, count = _bounds(cutoffs, [up.shape[1] for _, up in tails])
    size = chunk_size("token_chunk", token_chunk, BUDGET // (4 * count), len(h))
    logits = product(h, head, bias)
    first = jnp.argmax(logits, -1).astype(jnp.int32)
    if not len(h):
        return first.reshape(batch)

    def of_rows(h, logits):
        tail_logits = [_tail(h, *pair) for pair in tails]
        log_p = adaptive_full_log_probs(logits, tail_logits, cutoffs=cutoffs)
        return jnp.argmax(log_p, -1).astype(jnp.int32)

    behind = first >= cutoffs[0]
    full = _in_buffers(of_rows, behind, (h, logits), size)
    return jnp.where(behind, full, first).reshape(batch)


def adaptive_capacity(
    masses: Sequence[float], tokens: int, *, slack: float = 1.2
) -> tuple[int, ...]:
    """Number of buffer rows that :func:`adaptive_softmax` needs, with a margin.

    Args:
      masses: of each cluster, the share of labels that are expected in it.
      tokens: how many there are in a batch.
      slack: how many times the expected number fit; nothing is traced here, for the
        result is a shape.

    Returns:
      One number for each cluster, from 1 to ``tokens``.

    Raises:
      ValueError: a mass outside of [0, 1].

    >>> from logitlab.heads import adaptive_capacity
    >>> adaptive_capacity((0.25, 0.001), 500)
    (150, 1)
    """
    if not all(0 <= mass <= 1 for mass in masses):
        raise ValueError(f"masses is {masses}, expected shares in [0, 1]")
    rows = (math.ceil(slack * tokens * mass) for mass in masses)
    return tuple(max(1, min(n, tokens)) for n in rows)


def adaptive_softmax_init(
    key: jax.Array,
    width: int,
    num_classes: int,
    *,
    cutoffs: Sequence[int],
    div: float = 4.0,
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """Kernels of :func:`adaptive_softmax`, normal, with logits of unit variance.

    Args:
      key: a ``jax.random.key``.
      width: D, of the features.
      num_classes: V.
      cutoffs: where the clusters begin, without V.
      div: cluster i is ``D // div**(i + 1)`` wide, 1 at least; not traced, as it makes
        shapes.

    Returns:
      ``(head, tails)``: [D, c_1 + k], and k pairs [D, D_i], [D_i, V_i]; float32.

    Raises:
      ValueError: cutoffs that do not rise from 1 to below ``num_classes``.

    >>> import jax
    >>> from logitlab.heads import adaptive_softmax_init
    >>> _, tails = adaptive_softmax_init(jax.random.key(0), 64, 99, cutoffs=(9, 20))
    >>> [(down.shape, up.shape) for down, up in tails]
    [((64, 16), (16, 11)), ((64, 4), (4, 79))]
    """
    sizes = [b - a for a, b in itertools.pairwise([*cutoffs, num_classes])]
    cutoffs, _ = _bounds(cutoffs, sizes)

    def draw(key, rows, columns):
        return jax.random.normal(key, (rows, columns)) / math.sqrt(rows)

    key, head_key = jax.random.split(key)
    tails = []
    for i, size in enumerate(sizes):
        narrow = max(1, int(width // div ** (i + 1)))
        down, up = jax.random.split(jax.random.fold_in(key, i))
        tails.append((draw(down, width, narrow), draw(up, narrow, size)))
    return draw(head_key, width, cutoffs[0] + len(sizes)), tails


def _in_buffers(function, inside, arrays, size):
    """``function`` of the rows inside, ``size`` of them at a time; 0 for the others."""
    count = inside.shape[0]
    size = min(size, count)
    buffers = -(-count // size)
    rows = jnp.nonzero(inside, size=buffers * size, fill_value=count)[0]
    rows = rows.reshape(buffers, size)

    def one(rows):
        some = (a.at[rows].get(mode="fill", fill_value=0) for a in arrays)
        return function(*some)

    values = one(rows[0])
    zeros = lambda rows: jnp.zeros(rows.shape, values.dtype)  # noqa: E731

    # Buffers beyond the first are made again for the gradient: it keeps one at most.
    def others(rows):
        some = lambda rows: jax.lax.cond(rows[0] < count, one, zeros, rows)  # noqa: E731
        scan = jax.checkpoint(lambda carry, rows: (carry, some(rows)))
        return jax.lax.scan(scan, None, rows)[1]

    if buffers > 1:
        more = jax.lax.cond(rows[1, 0] < count, others, zeros, rows[1:])
        values = jnp.concatenate([values, more.reshape(-1)])
    out = jnp.zeros(count, values.dtype)
    return out.at[rows.reshape(-1)].set(values, mode="drop")


def _tail(hidden, down, up):
    low = product(hidden, down)
    return product(low.astype(jnp.result_type(hidden, down)), up)


def _head_labels(labels, cutoffs):
    """The label itself, or the place of its cluster in the head."""
    cluster = sum((labels >= c).astype(jnp.int32) for c in cutoffs[1:])
    return jnp.where(labels < cutoffs[0], labels, cutoffs[0] + cluster)


def _bounds(cutoffs, sizes):
    """Checked cutoffs, and V."""
    cutoffs = tuple(cutoffs)
    rising = all(a < b for a, b in itertools.pairwise((0, *cutoffs)))
    if not cutoffs or not rising:
        raise ValueError(f"cutoffs is {cutoffs}, expected numbers that rise from 1 on")
    if len(sizes) != len(cutoffs):
        raise ValueError(f"tails has {len(sizes)} clusters, expected {len(cutoffs)}")
    expected = [b - a for a, b in itertools.pairwise(cutoffs)]
    if list(sizes[:-1]) != expected or sizes[-1] < 1:
        raise ValueError(
            f"tails has {list(sizes)} classes, expected {[*expected, 'at least 1']}"
        )
    return cutoffs, cutoffs[-1] + sizes[-1]


def _logits(head_logits, tail_logits, cutoffs):
    head = numerics.promote_to_float32(head_logits, "head_logits")
    tails = [
        numerics.promote_to_float32(tail, f"tail_logits[{i}]")
        for i, tail in enumerate(tail_logits)
    ]
    batch = head.shape[:-1]
    for i, tail in enumerate(tails):
        if tail.ndim < 1 or tail.shape[:-1] != batch:
            raise ValueError(
                f"tail_logits[{i}] has shape {tail.shape}, expected {(*batch, 'V_i')}"
            )
    cutoffs, _ = _bounds(cutoffs, [tail.shape[-1] for tail in tails])
    expected = (*batch, cutoffs[0] + len(tails))
    if head.ndim < 1 or head.shape != expected:
        raise ValueError(f"head_logits has shape {head.shape}, expected {expected}")
    return head, tails


def _kernels(width, head, tails, bias, cutoffs):
    pairs = []
    for i, (down, up) in enumerate(tails):
        down = _gathered.matrix(down, f"tails[{i}][0]", width, "D_i")
        up = _gathered.matrix(up, f"tails[{i}][1]", down.shape[1], "V_i")
        pairs.append((down, up))
    columns = _bounds(cutoffs, [up.shape[1] for _, up in pairs])[0][0] + len(pairs)
    head = _gathered.matrix(head, "head", width, columns)
    return (
        head,
        pairs,
        None if bias is None else _gathered.matrix(bias, "bias", columns),
    )
