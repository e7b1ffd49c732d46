"""How the classes of embeddings lie to each other, by nearest neighbors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import length
from logitlab.numerics.arguments import check_count

__all__ = ["icnn_score"]

EPS = 1e-7


def icnn_score(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 4,
    neighbors: int | None = None,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    drop_first: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Inter and intra class nearest neighbors score (ICNN) of a set of embeddings.

    Use it to see how well classes are apart, of an episode for instance; its negative
    logarithm is ``losses.icnn_loss``.

    .. math:: \tfrac12 \bigl(\tfrac12 (\lambda_s + \lambda_d) + \gamma\bigr), \quad
        \lambda_s = 1 - \overline{\operatorname*{mean}_{j \in S_i} r_{ij}}, \quad
        \lambda_d = \overline{\operatorname*{mean}_{j \in D_i} q_{ij}}

    over the k nearest neighbors of each example, of which :math:`S_i` are of its class
    and :math:`D_i` are not; bars are means over examples that have such a neighbor.
    r is the distance over that of the nearest neighbor of another class, scaled to at
    most 1; q is the distance over the largest of all :math:`D_i`, and
    :math:`\lambda_d` is 1 where there is none. :math:`\gamma` is the share of neighbors
    of the same class. Distances are :math:`\sqrt{\|e_i - e_j\|^2 + 10^{-6}}`.

    Shapes: embeddings [N, D], labels [N] -> []

    Args:
      embeddings: taken as they are.
      labels: ints.
      k: how many neighbors; one less than there are, with a gamma of 1, where there are
        no more than k + 1.
      neighbors: among how many the nearest of another class is looked for; k + 1 by
        default.
      reference: [M, D], the neighbors, such as prototypes; the embeddings themselves,
        each without itself, by default.
      reference_labels: ints [M], of the reference.
      drop_first: leaves out the nearest reference, as the authors' code does.
      mask: bool [N], the examples that take part.

    Returns:
      In (0, 1], float32 (float64 for float64), higher is better; 1 without examples.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, ``mask`` not
        bool, or a number no Python integer.
      ValueError: the shapes disagree, a reference without labels, or ``k`` below 1.

    Numerics: relative error below 1e-4, value and gradient.

    Source: SuSana Distancia, 2023, arXiv:2305.09062; without the third factor of the
      paper, as the authors' code trains.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import icnn_score
    >>> e = jnp.float32([[0], [1], [2], [7], [8], [9]])
    >>> print(f"{icnn_score(e, jnp.array([0, 0, 0, 1, 1, 1]), k=2):.3f}")
    0.943
    """
    check_count("k", k)
    check_count("neighbors", k + 1 if neighbors is None else neighbors)
    e = numerics.promote_to_float32(embeddings, "embeddings")
    y = numerics.wide_labels(labels)
    keep = numerics.check_mask(mask, y.shape)
    if e.ndim != 2 or y.shape != e.shape[:1]:
        raise ValueError(
            f"embeddings, labels have shapes {e.shape}, {y.shape}, expected [N, D], [N]"
        )
    e = jnp.where(keep[:, None], e, 0)
    if reference is None:
        if reference_labels is not None:
            raise ValueError("reference_labels needs reference, which is None")
        r, c, skipped = e, y, 1
        valid = keep[:, None] & keep[None] & ~jnp.eye(len(e), dtype=bool)
        available = jnp.sum(keep, dtype=jnp.int32) - 1
    else:
        r = numerics.promote_to_float32(reference, "reference").astype(e.dtype)
        if reference_labels is None:
            raise ValueError("reference_labels is None, but reference is not")
        c, skipped = numerics.wide_labels(reference_labels, "reference_labels"), 0
        if r.ndim != 2 or r.shape[1] != e.shape[1] or c.shape != r.shape[:1]:
            raise ValueError(
                f"reference, reference_labels have shapes {r.shape}, {c.shape}, "
                f"expected [M, {e.shape[1]}], [M]"
            )
        skipped = int(drop_first)
        valid = jnp.broadcast_to(keep[:, None], (len(e), len(r)))
        available = jnp.int32(len(r) - skipped)
    size = k + 1 if neighbors is None else max(neighbors, k)
    size = min(size, max(len(r) - skipped, 0))
    if size == 0:
        return jnp.ones((), e.dtype)
    first = drop_first and reference is not None
    at = _nearest(e, r, valid, size + first)[:, int(first) :]
    gap = e[:, None] - r[at]
    d = length(jnp.concatenate([gap, jnp.full_like(gap[..., :1], 1e-3)], -1))
    found = keep[:, None] & (jnp.arange(size) < available)[None]
    return _score(d, y[:, None] == c[at], found, keep, k, available)


def _nearest(e, r, valid, count):
    """Indices of the nearest references of each example."""
    e, r = jax.lax.stop_gradient((e, r))
    distance = length(e[:, None] - r[None])
    return jax.lax.top_k(jnp.where(valid, -distance, -jnp.inf), count)[1]


def _score(d, same, found, keep, k, available):
    """The score, by distances of neighbors [N, K] and whether they are of the class."""
    clipped = k + 1 >= available
    k = jnp.where(clipped, jnp.maximum(available - 1, 0), k)
    near = found & (jnp.arange(d.shape[1]) < k)[None]
    other = found & ~same
    some_other = other.any(-1, keepdims=True)
    least = jnp.min(d, -1, keepdims=True, where=other, initial=jnp.inf)
    ratio = jnp.where(some_other, d / (jnp.where(some_other, least, 1) + EPS), 0)
    most = jnp.max(ratio, -1, keepdims=True, where=near, initial=1)
    lambda_s = 1 - _mean_of_means(ratio / most, near & same)
    apart = near & ~same
    farthest = jnp.max(d, where=apart, initial=0)
    lambda_d = _mean_of_means(d / (farthest + EPS), apart)
    lambda_d = jnp.where(apart.any(), lambda_d, 1)
    share = jnp.sum(near & same, -1, dtype=d.dtype) / jnp.maximum(k, 1)
    gamma = jnp.where(clipped, 1, numerics.masked_mean(share, keep))
    return ((lambda_s + lambda_d) / 2 + gamma) / 2


def _mean_of_means(x, where):
    """Over examples that have entries, of the means of these."""
    count = jnp.sum(where, -1, dtype=x.dtype)
    means = jnp.sum(jnp.where(where, x, 0), -1) / (count + EPS)
    return jnp.sum(means) / (jnp.sum(count > 0, dtype=x.dtype) + EPS)
