"""Which examples of a batch to train on: useful ones, unlike those of late (UDS)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.spectra import nuclear_norm
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "Buffer",
    "Projection",
    "UdsSelection",
    "UdsState",
    "buffer_init",
    "buffer_mean_distance",
    "buffer_push",
    "init_projection",
    "project_logits",
    "uds_select",
]


class Projection(NamedTuple):
    """A random projection of the logits of a sequence, fixed for a run.

    Attributes:
      vocab_signs: 1 or -1, [V].
      vocab_indices: frequencies that are kept, [R].
      time_signs: 1 or -1, [T].
      time_indices: frequencies that are kept, [S].
    """

    vocab_signs: jax.Array
    vocab_indices: jax.Array
    time_signs: jax.Array
    time_indices: jax.Array


class Buffer(NamedTuple):
    """The last rows that were pushed, at most as many as it has room for.

    Attributes:
      rows: [Q, D], in the order in which they were pushed, from the start again once
        the end is reached.
      place: where the next one goes, [].
      size: how many are there, [].
    """

    rows: jax.Array
    place: jax.Array
    size: jax.Array


class UdsState(NamedTuple):
    """What ``uds_select`` remembers.

    Attributes:
      projection: of ``init_projection``.
      buffer: of ``buffer_init``, for rows of R S numbers.
    """

    projection: Projection
    buffer: Buffer


class UdsSelection(NamedTuple):
    """What ``uds_select`` returns.

    Attributes:
      indices: of the selected examples, the best first, [K].
      state: a ``UdsState`` that knows them.
      scores: of all examples, [B].
    """

    indices: jax.Array
    state: UdsState
    scores: jax.Array


def init_projection(
    key: ArrayLike,
    length: int,
    vocab_size: int,
    *,
    time_samples: int = 8,
    vocab_samples: int = 128,
) -> Projection:
    """Draws a projection of [T, V] logits to S R numbers, for ``project_logits``.

    Args:
      key: a ``jax.random.key``.
      length: T, of the longest sequence.
      vocab_size: V.
      time_samples: S.
      vocab_samples: R.

    Returns:
      A ``Projection``; frequencies are drawn with replacement.

    Raises:
      ValueError: a number is below 1.

    Source: UDS, 2025, arXiv:2510.16882.

    >>> import jax
    >>> from logitlab.data import init_projection
    >>> projection = init_projection(jax.random.key(0), 512, 1000)
    >>> projection.vocab_indices.shape, projection.time_indices.shape
    ((128,), (8,))
    """
    sizes = dict(length=length, vocab_size=vocab_size)
    sizes |= dict(time_samples=time_samples, vocab_samples=vocab_samples)
    for name, size in sizes.items():
        check_range(name, size, lambda n: n >= 1, "at least 1")
    keys = jax.random.split(key, 4)
    return Projection(
        jax.random.rademacher(keys[0], (vocab_size,), jnp.float32),
        jax.random.randint(keys[1], (vocab_samples,), 0, vocab_size),
        jax.random.rademacher(keys[2], (length,), jnp.float32),
        jax.random.randint(keys[3], (time_samples,), 0, length),
    )


def project_logits(
    logits: ArrayLike,
    projection: Projection,
    *,
    normalize: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""A few numbers whose distances are those of the logits of whole sequences.

    Signs are flipped at random, and some frequencies of the Fourier transform kept,
    along the vocabulary and then along the sequence, which is filled up with zeros.

    .. math:: B = \sqrt{\tfrac{V T}{R S}} \, \mathrm{Re} \, F_T \bigl(
        s_T \odot \mathrm{Re} \, F_V (s_V \odot X)_{J_V} \bigr)_{J_T}

    The transforms are not normalized, as in the original code: on average
    :math:`\|B\|^2` is :math:`V T / 4` times the squared norm of the logits.

    Args:
      logits: [..., L, V], of at most T positions.
      projection: of ``init_projection``.
      normalize: divides by :math:`\sqrt{V T} / 2`, which keeps norms on average.
      mask: bool [..., L], the positions that count.

    Returns:
      [..., S R], float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: ``logits`` does not fit the projection.

    Source: UDS, 2025, arXiv:2510.16882; Ailon and Chazelle 2009, "The fast
      Johnson-Lindenstrauss transform and approximate nearest neighbors".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import init_projection, project_logits
    >>> projection = init_projection(jax.random.key(0), 16, 100)
    >>> project_logits(jnp.ones((4, 12, 100)), projection).shape
    (4, 1024)
    """
    x = numerics.promote_to_float32(logits, "logits")
    length, vocab = projection.time_signs.size, projection.vocab_signs.size
    if x.ndim < 2 or x.shape[-1] != vocab or x.shape[-2] > length:
        raise ValueError(
            f"logits has shape {x.shape}, expected [..., up to {length}, {vocab}]"
        )
    keep = numerics.check_mask(mask, x.shape[:-1])
    x = jnp.where(keep[..., None], x, 0)
    x = _frequencies(x, projection.vocab_signs, projection.vocab_indices)
    missing = [(0, 0)] * (x.ndim - 2) + [(0, length - x.shape[-2]), (0, 0)]
    x = jnp.moveaxis(jnp.pad(x, missing), -2, -1)
    x = _frequencies(x, projection.time_signs, projection.time_indices)
    x = jnp.moveaxis(x, -1, -2).reshape(*x.shape[:-2], -1)
    return x * (2 / (vocab * length) ** 0.5) if normalize else x


def buffer_init(size: int, dim: int) -> Buffer:
    """An empty buffer for the last ``size`` rows of ``dim`` numbers.

    Raises:
      ValueError: a number is below 1.

    >>> from logitlab.data import buffer_init
    >>> int(buffer_init(1024, 8).size)
    0
    """
    for name, value in (("size", size), ("dim", dim)):
        check_range(name, value, lambda n: n >= 1, "at least 1")
    zero = jnp.zeros((), jnp.int32)
    return Buffer(jnp.zeros((size, dim)), zero, zero)


def buffer_push(
    buffer: Buffer, rows: ArrayLike, *, mask: ArrayLike | None = None
) -> Buffer:
    """A buffer with more rows, in place of the oldest where it is full.

    Args:
      buffer: of ``buffer_init`` or an earlier push, [Q, D].
      rows: [K, D], the last of them the newest; at most Q.
      mask: bool [K], those that are pushed.

    Raises:
      TypeError: ``rows`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree, or there are more rows than the buffer has room
        for.

    >>> import jax.numpy as jnp
    >>> from logitlab.data import buffer_init, buffer_push
    >>> buffer_push(buffer_init(3, 1), jnp.float32([[1], [2]])).rows.ravel()
    Array([1., 2., 0.], dtype=float32)
    """
    new = numerics.promote_to_float32(rows, "rows")
    room, dim = buffer.rows.shape
    if new.ndim != 2 or new.shape[1] != dim or len(new) > room:
        raise ValueError(
            f"rows has shape {new.shape}, expected [up to {room}, {dim}] as the buffer"
        )
    keep = numerics.check_mask(mask, new.shape[:1])
    at = (buffer.place + jnp.cumsum(keep, dtype=jnp.int32) - 1) % room
    at = jnp.where(keep, at, room)  # beyond the end, where nothing is written
    pushed = jnp.sum(keep, dtype=jnp.int32)
    return Buffer(
        buffer.rows.at[at].set(new.astype(buffer.rows.dtype), mode="drop"),
        (buffer.place + pushed) % room,
        jnp.minimum(buffer.size + pushed, room),
    )


def buffer_mean_distance(buffer: Buffer, rows: ArrayLike) -> jax.Array:
    r"""Mean Euclidean distance of each row to those in the buffer, 0 if it is empty.

    .. math:: \frac1Q \sum_q \|b_q - r\|_2

    Args:
      buffer: [Q, D].
      rows: [K, D].

    Returns:
      [K].

    Raises:
      TypeError: ``rows`` is not floating point.
      ValueError: the shapes disagree.

    >>> import jax.numpy as jnp
    >>> from logitlab.data import buffer_init, buffer_mean_distance, buffer_push
    >>> buffer = buffer_push(buffer_init(9, 2), jnp.float32([[3, 4], [0, 0]]))
    >>> buffer_mean_distance(buffer, jnp.zeros((1, 2)))
    Array([2.5], dtype=float32)
    """
    new = numerics.promote_to_float32(rows, "rows")
    room, dim = buffer.rows.shape
    if new.ndim != 2 or new.shape[1] != dim:
        raise ValueError(f"rows has shape {new.shape}, expected [K, {dim}]")
    keep = jnp.arange(room) < buffer.size

    def mean_distance(row):  # without the square of anything that nearly cancels
        return numerics.masked_mean(
            jnp.linalg.norm(buffer.rows - row[None], axis=-1), keep
        )

    return jax.lax.map(mean_distance, new)


def uds_select(
    logits: ArrayLike,
    state: UdsState,
    *,
    k: int,
    alpha: ArrayLike = 2.5e-3,
    center: bool = False,
    mask: ArrayLike | None = None,
) -> UdsSelection:
    r"""The k examples of a batch from which there is most to learn, and new memory.

    Their logits are large and many-sided (utility), and unlike those of the examples
    selected of late (diversity). One forward pass decides, without gradients; a second
    one trains on ``indices``.

    .. math:: \|X\|_* + \alpha \, \mathrm{mean}_q \|B(X) - b_q\|_2

    Args:
      logits: of the whole sequences, [B, L, V].
      state: what was selected before.
      k: how many, at most B and the room of the buffer.
      alpha: weight of the diversity; of projections that are not normalized.
      center: whether each position's mean is subtracted for the utility, which else
        takes a constant that is added to all logits for learning.
      mask: bool [B, L], the positions that count. The original code counts all.

    Returns:
      A ``UdsSelection``.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``k`` is outside its range.

    Source: UDS, 2025, arXiv:2510.16882.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import UdsState, buffer_init, init_projection, uds_select
    >>> projection = init_projection(jax.random.key(0), 8, 20)
    >>> state = UdsState(projection, buffer_init(64, 1024))
    >>> x = jax.random.normal(jax.random.key(1), (4, 8, 20))
    >>> uds_select(x.at[2].mul(3), state, k=1).indices
    Array([2], dtype=int32)
    """
    x = jax.lax.stop_gradient(numerics.promote_to_float32(logits, "logits"))
    if x.ndim != 3:
        raise ValueError(f"logits has shape {x.shape}, expected [B, L, V]")
    most = min(len(x), len(state.buffer.rows))
    check_range("k", k, lambda k: (k >= 1) & (k <= most), f"in [1, {most}]")
    rows = project_logits(x, state.projection, mask=mask)
    utility = nuclear_norm(x, center=center, mask=mask)
    diversity = buffer_mean_distance(state.buffer, rows)
    scores = utility + hyper("alpha", alpha, x.dtype) * diversity
    indices = jax.lax.top_k(scores, k)[1].astype(jnp.int32)
    buffer = buffer_push(state.buffer, rows[indices])
    return UdsSelection(indices, UdsState(state.projection, buffer), scores)


def _frequencies(x, signs, indices):
    """Real parts of some frequencies of the last axis, scaled up as they are few."""
    n = signs.size
    shape = (1,) * (x.ndim - 1) + (n,)
    spectrum = jnp.fft.rfft(x * signs.reshape(shape).astype(x.dtype)).real
    half = jnp.minimum(indices, n - indices)  # real parts mirror each other
    return spectrum[..., half] * (n / indices.size) ** 0.5
