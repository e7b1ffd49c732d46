"""Class-to-code mappings: random, by frequency, by embedding, or learned."""

from __future__ import annotations

import heapq

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _gathered
from logitlab.heads._operands import BUDGET
from logitlab.numerics.arguments import hyper

__all__ = [
    "check_mapping",
    "vq_assign",
    "vq_centroids",
    "vq_codebook_loss",
    "vq_mapping",
]

METHODS = "random", "frequency", "singletons", "kmeans"
LLOYD_STEPS = 25


def vq_mapping(
    array: ArrayLike, k: int, *, method: str, key: jax.Array | None = None
) -> jax.Array:
    """Maps each class to a code; all methods but ``kmeans`` run on the host.

    * ``random``: clusters of equal size.
    * ``frequency``: bands of ranks, in which counts differ by the same factor at most;
      what codes that leaves over go to the largest bands.
    * ``singletons``: a code for each of the k - 1 most frequent, one for all others.
    * ``kmeans``: of the rows of an embedding, from a k-means++ start, 25 steps of
      Lloyd's; :func:`vq_centroids` makes the codebook.

    Args:
      array: counts [V], or an embedding [V, D] for ``kmeans`` (and ``random``).
      k: how many codes there are, at most V; not traced, as it is a shape.
      method: one of the above.
      key: a ``jax.random.key``, for ``random`` and ``kmeans``.

    Returns:
      int32 [V] in ``[0, k)``.

    Raises:
      ValueError: an unknown method, a missing key, k out of range, or an array of the
        wrong shape; counts that are negative or not finite.

    Source: k-means++ of Arthur and Vassilvitskii 2007; for heads, arXiv:2505.10202. The
      choice among them is ours.

    >>> import numpy as np
    >>> from logitlab.heads import vq_mapping
    >>> vq_mapping(np.array([1, 100, 90, 2, 1]), 3, method="singletons")
    Array([2, 0, 1, 2, 2], dtype=int32)
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {METHODS}")
    array = jnp.asarray(array)
    axes = {"random": (1, 2), "kmeans": (2,)}.get(method, (1,))
    if array.ndim not in axes:
        shape = "(V, D)" if method == "kmeans" else "(V,)"
        raise ValueError(f"array has shape {array.shape}, expected {shape}")
    classes = len(array)
    if not 1 <= k <= classes:
        raise ValueError(
            f"k is {k}, expected a number from 1 to {classes}, the classes"
        )
    if method in ("random", "kmeans"):
        if key is None:
            raise ValueError(f"key is None, expected a jax.random.key for {method!r}")
        if method == "random":
            return jax.random.permutation(key, jnp.arange(classes, dtype=jnp.int32) % k)
        return _kmeans(key, numerics.promote_to_float32(array, "array"), k)
    counts = np.asarray(array, np.float64)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError("array has negative numbers, inf or NaN, expected counts")
    order = np.argsort(-counts, kind="stable")
    mapping = np.empty(classes, np.int32)
    if method == "singletons":
        mapping[order] = np.minimum(np.arange(classes), k - 1)
    else:
        starts = _bands(counts[order], k)
        mapping[order] = np.searchsorted(starts, np.arange(classes), side="right") - 1
    return jnp.asarray(mapping)


def vq_centroids(embedding: ArrayLike, mapping: ArrayLike, k: int) -> jax.Array:
    """Mean class embedding of each code; 0 for a code without classes.

    Shapes: embedding [V, D], mapping [V] -> [K, D]

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_centroids
    >>> vq_centroids(jnp.float32([[1], [3], [5]]), jnp.array([0, 0, 1]), 2)
    Array([[2.],
           [5.]], dtype=float32)
    """
    e = numerics.promote_to_float32(
        _gathered.matrix(embedding, "embedding", "V", "D"), "embedding"
    )
    m = check_mapping(mapping, k, len(e))
    sums = jax.ops.segment_sum(e, m, k)
    return sums / jnp.maximum(jnp.bincount(m, length=k), 1)[:, None].astype(e.dtype)


def vq_assign(embedding: ArrayLike, codebook: ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""The nearest code of each class, and its vector with a straight-through gradient.

    .. math:: M(v) = \arg\min_k \|E_v - C_k\|^2, \quad
        \hat E_v = C_{M(v)}, \quad d \hat E_v = dE_v

    To learn a map, train with the logits ``hidden @ quantized.T`` and
    :func:`vq_codebook_loss`: the embedding gets the loss's gradient, the codebook
    follows it. Only the codebook and the map are needed afterwards.

    Shapes: embedding [V, D], codebook [K, D] -> [V], [V, D]

    Args:
      embedding: E, one row for each class.
      codebook: C, one row for each code.

    Returns:
      ``(mapping, quantized)``: int32, and the rows of the codebook in the embedding's
      dtype. No gradient reaches the codebook.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: shapes that do not fit together.

    Source: van den Oord et al. 2017, arXiv:1711.00937.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_assign
    >>> vq_assign(jnp.float32([[1.0], [4.0]]), jnp.float32([[0.0], [5.0]]))[0]
    Array([0, 1], dtype=int32)
    """
    e = _gathered.matrix(embedding, "embedding", "V", "D")
    c = _gathered.matrix(codebook, "codebook", "K", e.shape[1])
    stop = jax.lax.stop_gradient
    m = _nearest(stop(e), stop(c))
    # Adds zero: the value is the code's to the last bit.
    return m, stop(c)[m].astype(e.dtype) + (e - stop(e))


def vq_codebook_loss(
    embedding: ArrayLike,
    codebook: ArrayLike,
    mapping: ArrayLike,
    *,
    commitment: ArrayLike = 0.25,
) -> jax.Array:
    r"""VQ-VAE codebook and commitment loss of class embeddings.

    .. math:: \ell_v = \|\mathrm{sg}(E_v) - C_{M(v)}\|^2
        + \beta \|E_v - \mathrm{sg}(C_{M(v)})\|^2

    Shapes: embedding [V, D], codebook [K, D], mapping [V] -> [V]

    Args:
      embedding: E, one row for each class.
      codebook: C, one row for each code.
      mapping: M, ints in ``[0, K)``, of :func:`vq_assign`.
      commitment: beta.

    Returns:
      One number for each class, float32 (float64 for float64).

    Raises:
      TypeError: floating point arguments that are not, or integer ones.
      ValueError: shapes that do not fit together.

    Source: van den Oord et al. 2017, arXiv:1711.00937, equation 3.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_codebook_loss
    >>> vq_codebook_loss(jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.array([0]))
    Array([2.5], dtype=float32)
    """
    e = numerics.promote_to_float32(
        _gathered.matrix(embedding, "embedding", "V", "D"), "embedding"
    )
    c = _gathered.matrix(codebook, "codebook", "K", e.shape[1])
    m = check_mapping(mapping, len(c), len(e))
    code = numerics.promote_to_float32(c, "codebook").at[m]
    code = code.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    stop = jax.lax.stop_gradient
    pull = jnp.square(stop(e) - code).sum(-1)
    beta = hyper("commitment", commitment, e.dtype)
    push = jnp.square(e - stop(code)).sum(-1)
    return pull + beta * jnp.where((beta == 0) & jnp.isinf(push), 0, push)


def check_mapping(mapping: ArrayLike, k: int, classes: int | None = None) -> jax.Array:
    """Codes in ``[0, k)`` as an array [V]; out of range is looked for where known."""
    m = numerics.wide_labels(mapping, "mapping")
    if m.ndim != 1 or not m.size or classes not in (None, len(m)):
        expected = f"({'V' if classes is None else classes},)"
        raise ValueError(f"mapping has shape {m.shape}, expected {expected}")
    beyond = (m < 0) | (m >= k)
    if numerics.is_concrete(beyond) and beyond.any():
        raise ValueError(f"mapping outside [0, {k}): {m[beyond][:5]}")
    return m


def _nearest(rows, codes):
    """Indices of the nearest codes; distances of 64 MiB of rows at a time."""
    wide = numerics.promote_to_float32(codes, "codebook")
    norms = jnp.square(wide).sum(-1)
    most = max(1, min(len(rows), BUDGET // (4 * len(codes))))

    def one(row):
        return jnp.argmin(norms - 2 * wide @ row.astype(wide.dtype)).astype(jnp.int32)

    return jax.lax.map(one, rows, batch_size=most)


def _kmeans(key, rows, k):
    first, key = jax.random.split(key)
    start = rows[jax.random.randint(first, (), 0, len(rows))]

    # k-means++: a row becomes a code as likely as its squared distance has it.
    def seed(i, carry):
        codes, far = carry
        far = jnp.minimum(far, jnp.square(rows - codes[i - 1][None]).sum(-1))
        row = jax.random.categorical(jax.random.fold_in(key, i), jnp.log(far))
        return codes.at[i].set(rows[row]), far

    codes = jnp.zeros((k, rows.shape[1]), rows.dtype).at[0].set(start)
    far = jnp.full(len(rows), jnp.inf, rows.dtype)
    codes, _ = jax.lax.fori_loop(1, k, seed, (codes, far))

    def lloyd(_, codes):
        m = _nearest(rows, codes)
        taken = jnp.bincount(m, length=k)[:, None] > 0
        return jnp.where(taken, vq_centroids(rows, m, k), codes)

    return _nearest(rows, jax.lax.fori_loop(0, LLOYD_STEPS, lloyd, codes))


def _bands(counts, k):
    """Where k bands of falling counts start, with the least ratio of counts within."""
    seen = counts[counts > 0]
    least = (
        seen[-1] / 2 if seen.size else 1.0
    )  # what was never seen is a band of its own
    logs = np.log(np.where(counts > 0, counts, least))

    def split(width):
        starts = [0]
        while len(starts) <= k:
            # The first rank whose count is too low for this band.
            end = np.searchsorted(-logs, width - logs[starts[-1]], side="right")
            if end == len(logs):
                break
            starts.append(int(end))
        return starts

    low, high = 0.0, logs[0] - logs[-1]
    starts = [0]
    for _ in range(50):
        middle = (low + high) / 2
        some = split(middle)
        if len(some) <= k:
            high, starts = middle, some
        else:
            low = middle
    ends = [*starts[1:], len(counts)]
    heap = [(a - b, a) for a, b in zip(starts, ends, strict=True)]
    heapq.heapify(heap)
    while len(heap) < k:  # ties leave codes over
        size, start = heapq.heappop(heap)
        half = -size // 2
        heapq.heappush(heap, (-half, start))
        heapq.heappush(heap, (size + half, start + half))
    return np.sort([start for _, start in heap])
