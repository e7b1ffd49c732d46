"""Whether neighbors are of the same class: retrieval by embeddings, and clusterings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import check_count

__all__ = [
    "map_at_r",
    "normalized_mutual_information",
    "r_precision",
    "recall_at_k",
]


def recall_at_k(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    ks: Sequence[int],
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
    chunk: int | None = None,
) -> Mean:
    r"""Share of queries that have one of their class among the k nearest references.

    Use it as the first number of metric learning; at k = 1 it is the precision at 1,
    and the accuracy of the nearest neighbor.

    .. math:: \frac1N \sum_i \bigl[\#\{n \in N_i : s_{in} \ge \max_{p \in P_i} s_{ip}\}
        < k\bigr]

    with cosines s. A reference of another class that is as near as the nearest of the
    query's own comes first: embeddings that have collapsed do not look good. Queries
    whose class no reference has do not count.

    Shapes: embeddings [N, D], labels [N], reference [M, D], reference_labels [M]
      -> ([K], [])

    Args:
      embeddings: queries, of any length.
      labels: ints; an example with a negative one does not count, on either side.
      ks: Python numbers, of at most the number of references.
      reference: where neighbors are looked for; the queries themselves, each without
        itself, by default.
      reference_labels: ints [M], of the reference.
      mask: bool [N], the queries that count, and without ``reference`` the references.
      reference_mask: bool [M], the references that count.
      chunk: how many queries are compared at a time, for memory; all by default.

    Returns:
      A ``Mean`` for each k; those of batches of queries add up.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, masks not bool,
        or a k no Python integer.
      ValueError: the shapes disagree, or a k is below 1 or above the number of
        references.

    Source: Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor
      search"; Musgrave, Belongie and Lim 2020, arXiv:2003.08505.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import recall_at_k
    >>> e = jnp.float32([[1, 0], [4, 3], [3, 4], [0, 1]])
    >>> labels = jnp.array([0, 0, 1, 0])
    >>> recall_at_k(e, labels, ks=(1, 2)).value
    Array([0.33333334, 1.        ], dtype=float32)
    """
    ks = tuple(ks)

    def hits(s, same, other):
        best = jnp.max(s, -1, keepdims=True, where=same, initial=-jnp.inf)
        ahead = jnp.sum(other & (s >= best), -1, dtype=jnp.int32)
        return ahead[:, None] < jnp.array(ks, jnp.int32)[None]

    sides = _sides(
        embeddings, labels, reference, reference_labels, mask, reference_mask
    )
    references = len(sides[2]) - (reference is None)
    for k in ks:
        check_count("ks", k)
        if k > references:
            raise ValueError(
                f"ks has {k}, expected at most {references}, the number of references"
            )
    found, count = _by_chunks(hits, sides, chunk)
    return Mean(found, count)


def r_precision(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
    chunk: int | None = None,
) -> Mean:
    r"""Share of the R nearest references that are of the query's class.

    .. math:: \frac1N \sum_i \frac{\#\{p \in P_i : \mathrm{rank}_{ip} \le R_i\}}{R_i},
        \quad R_i = |P_i|

    Shapes: embeddings [N, D], labels [N], reference [M, D], reference_labels [M]
      -> ([], [])

    Args and errors are those of ``recall_at_k``, as are ties.

    Returns:
      A ``Mean``; those of batches of queries add up.

    Source: Musgrave, Belongie and Lim 2020, arXiv:2003.08505.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import r_precision
    >>> e = jnp.float32([[1, 0], [4, 3], [3, 4], [0, 1]])
    >>> labels = jnp.array([0, 0, 1, 0])
    >>> r_precision(e, labels).value
    Array(0.5, dtype=float32)
    """

    def precision(s, same, other):
        hit, _, total = _ranked(s, same, other)
        return jnp.sum(hit, -1, dtype=s.dtype) / jnp.maximum(total, 1)

    return Mean(
        *_by_chunks(
            precision,
            _sides(
                embeddings, labels, reference, reference_labels, mask, reference_mask
            ),
            chunk,
        )
    )


def map_at_r(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
    chunk: int | None = None,
) -> Mean:
    r"""Mean average precision at R: the R-precision, with early hits counting more.

    Use it to compare embeddings: it tells apart what has the same recall at 1.

    .. math:: \frac1N \sum_i \frac1{R_i} \sum_{p \in P_i,\, \mathrm{rank}_{ip} \le R_i}
        \frac{\#\{p' \in P_i : \mathrm{rank}_{ip'} \le \mathrm{rank}_{ip}\}}
        {\mathrm{rank}_{ip}}

    Shapes: embeddings [N, D], labels [N], reference [M, D], reference_labels [M]
      -> ([], [])

    Args and errors are those of ``recall_at_k``, as are ties.

    Returns:
      A ``Mean``; those of batches of queries add up.

    Source: Musgrave, Belongie and Lim 2020, arXiv:2003.08505.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import map_at_r
    >>> e = jnp.float32([[1, 0], [4, 3], [3, 4], [0, 1]])
    >>> labels = jnp.array([0, 0, 1, 0])
    >>> map_at_r(e, labels).value
    Array(0.33333334, dtype=float32)
    """

    def average_precision(s, same, other):
        hit, rank, total = _ranked(s, same, other)
        precision = jnp.cumsum(hit, -1, dtype=s.dtype) / rank[None]
        return jnp.sum(jnp.where(hit, precision, 0), -1) / jnp.maximum(total, 1)

    return Mean(
        *_by_chunks(
            average_precision,
            _sides(
                embeddings, labels, reference, reference_labels, mask, reference_mask
            ),
            chunk,
        )
    )


def normalized_mutual_information(
    labels: ArrayLike, clusters: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Normalized mutual information (NMI) of two ways to group examples.

    Use it to compare a clustering, of k-means for instance, with classes; the names of
    the groups do not matter.

    .. math:: \frac{I(y, c)}{\tfrac12 (H(y) + H(c))}

    It compares all examples: gather those of all batches first.

    Shapes: labels [N], clusters [N], mask [N] -> []

    Args:
      labels: ints, of any range.
      clusters: ints, of any range.
      mask: bool, the examples that count.

    Returns:
      Between 0 and 1, float32; 1 where both are a single group.

    Raises:
      TypeError: an argument is not integer or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: Manning, Raghavan and Schuetze 2008, "Introduction to information
      retrieval", 16.3; the arithmetic mean of the entropies.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import normalized_mutual_information
    >>> labels = jnp.array([0, 0, 1, 1])
    >>> clusters = jnp.array([5, 5, 3, 4])
    >>> print(f"{normalized_mutual_information(labels, clusters):.4f}")
    0.8000
    """
    y, c = numerics.wide_labels(labels), numerics.wide_labels(clusters, "clusters")
    if y.ndim != 1 or y.shape != c.shape:
        raise ValueError(
            f"labels, clusters have shapes {y.shape}, {c.shape}, expected [N]"
        )
    keep = numerics.check_mask(mask, y.shape)
    n = jnp.maximum(jnp.sum(keep, dtype=jnp.int32), 1).astype(jnp.result_type(float))
    # Of each example, in the order of pairs of groups: how many are in its groups.
    gone, y, c = jax.lax.sort((~keep, y, c), num_keys=3)
    both = _group_sizes(gone, y, c)
    in_y = _group_sizes(gone, y)
    gone_c, sorted_c, back = jax.lax.sort(
        (gone, c, jnp.arange(y.size, dtype=jnp.int32)), num_keys=2
    )
    in_c = jnp.zeros_like(in_y).at[back].set(_group_sizes(gone_c, sorted_c))
    both, in_y, in_c = (a.astype(n.dtype) for a in (both, in_y, in_c))

    def mean(x):
        return numerics.masked_mean(x, ~gone)

    information = mean(jnp.log(both * n / (in_y * in_c)))
    entropies = mean(jnp.log(n / in_y)) + mean(jnp.log(n / in_c))
    nmi = 2 * information / jnp.where(entropies > 0, entropies, 1)
    return jnp.where(entropies > 0, jnp.clip(nmi, 0, 1), 1)


def _group_sizes(*keys):
    """How many entries of sorted arrays equal each."""
    at = jnp.arange(keys[0].size, dtype=jnp.int32)
    new = jnp.zeros(max(keys[0].size - 1, 0), bool)
    for a in keys:
        new |= a[1:] != a[:-1]
    edge = jnp.ones(min(keys[0].size, 1), bool)
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, new]), at, 0))
    last = jnp.where(jnp.concatenate([new, edge]), at, keys[0].size)
    return jax.lax.cummin(last, reverse=True) - first + 1


def _sides(embeddings, labels, reference, reference_labels, mask, reference_mask):
    """Unit rows, labels and mask of queries and references, and whether they differ."""
    e, y, keep = _side(embeddings, labels, mask, "")
    if reference is None:
        for name, given in (("labels", reference_labels), ("mask", reference_mask)):
            if given is not None:
                raise ValueError(f"reference_{name} needs reference, which is None")
        return e, y, e, y, keep, keep, True
    if reference_labels is None:
        raise ValueError("reference_labels is None, but reference is not")
    r, c, keep_r = _side(reference, reference_labels, reference_mask, "reference_")
    if r.shape[1] != e.shape[1]:
        raise ValueError(
            f"reference has shape {r.shape}, expected rows of width {e.shape[1]} as "
            f"embeddings has, {e.shape}"
        )
    return e, y, r.astype(e.dtype), c, keep, keep_r, False


def _side(embeddings, labels, mask, prefix):
    name = prefix.rstrip("_") or "embeddings"
    e = numerics.promote_to_float32(embeddings, name)
    y = numerics.wide_labels(labels, f"{prefix}labels")
    if e.ndim != 2 or y.shape != e.shape[:1]:
        raise ValueError(
            f"{name}, {prefix}labels have shapes {e.shape}, {y.shape}, expected one "
            "row and one label per example"
        )
    keep = numerics.check_mask(mask, y.shape, f"{prefix}mask") & (y >= 0)
    return unit(jnp.where(keep[:, None], e, 0)), y, keep


def _by_chunks(
    score: Callable, sides: tuple, chunk: int | None
) -> tuple[jax.Array, jax.Array]:
    """Sums of scores over queries that have a reference of their class, and how many.

    ``score(similarities, same, other)`` is called with some of the queries at a time.
    """
    e, y, r, c, keep, keep_r, themselves = sides

    def some(rows):
        e, y, keep, at = rows
        valid = keep[:, None] & keep_r[None]
        if themselves:
            valid &= at[:, None] != jnp.arange(len(r))[None]
        same = y[:, None] == c[None]
        counted = (valid & same).any(-1)
        scores = score(e @ r.T, valid & same, valid & ~same)
        counted_rows = counted.reshape(-1, *(1,) * (scores.ndim - 1))
        total = jnp.sum(jnp.where(counted_rows, scores, 0), 0)
        return total, jnp.sum(counted, dtype=jnp.int32)

    rows = e, y, keep, jnp.arange(len(e))
    if chunk is None or chunk >= len(e):
        return some(rows)
    check_count("chunk", chunk)
    chunks = -(-len(e) // chunk)

    def split(a):  # the last chunk is filled up with what does not count
        a = jnp.pad(a, [(0, chunks * chunk - len(a))] + [(0, 0)] * (a.ndim - 1))
        return a.reshape(chunks, chunk, *a.shape[1:])

    totals, counts = jax.lax.map(some, jax.tree.map(split, rows))
    return jnp.sum(totals, 0), jnp.sum(counts, dtype=jnp.int32)


def _ranked(s, same, other):
    """By rank: which of the first R are of the class; the ranks; R of each query."""
    total = jnp.sum(same, -1, keepdims=True, dtype=jnp.int32)
    key = jnp.where(same | other, -s, jnp.inf)
    hit = jax.lax.sort((key, same), num_keys=2, dimension=1)[1]
    rank = jnp.arange(1, s.shape[1] + 1, dtype=jnp.int32)
    return hit & (rank[None] <= total), rank, total[:, 0]
