"""Miners: which of the pairs of a batch are worth learning from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper
from logitlab.targets.pairs import Pairs, label_pairs

__all__ = ["batch_hard_pairs", "distance_weighted_pairs", "multi_similarity_pairs"]


def multi_similarity_pairs(
    similarities: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.1,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> Pairs:
    r"""Pairs that are hard beside the anchor's others: the miner of multi-similarity.

    Use it with ``losses.multi_similarity_loss``, or with any loss of pairs.

    .. math:: s_n + \epsilon > \min_{p \in P} s_p, \qquad
        s_p - \epsilon < \max_{n \in N} s_n

    keep a negative n and a positive p of an anchor: those that overlap with the other
    kind. Either both kinds are left at an anchor or none.

    Shapes: similarities [B, M], labels [B], reference_labels [M] -> ([B, M], [B, M])

    Args:
      similarities: of anchors and references, cosines for instance; no gradient.
      labels: ints; an example with a negative one is in no pair.
      margin: epsilon.
      reference_labels: ints [M]; without them the anchors are compared with each other,
        and none with itself.
      mask: bool [B], False leaves an anchor out.
      reference_mask: bool [M], False leaves a reference out.

    Returns:
      ``Pairs`` of two bool arrays [B, M]; ``&`` composes them with another miner's.

    Raises:
      TypeError: similarities are not floating point, labels not integers, or masks not
        bool.
      ValueError: the shapes disagree.

    Source: Wang et al. 2019, arXiv:1904.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import multi_similarity_pairs
    >>> s = jnp.float32([[1, 0.8, 0.75, 0.1], [0.8, 1, 0, 0]])
    >>> labels, reference_labels = jnp.array([0, 0]), jnp.array([1, 0, 1, 1])
    >>> pairs = multi_similarity_pairs(s, labels, reference_labels=reference_labels)
    >>> print(pairs.negative.astype(int))
    [[1 0 1 0]
     [0 0 0 0]]
    """
    s, pairs = _candidates(similarities, labels, reference_labels, mask, reference_mask)
    epsilon = hyper("margin", margin, s.dtype)
    least = _extreme(jnp.min, s, pairs.positive, jnp.inf)
    most = _extreme(jnp.max, s, pairs.negative, -jnp.inf)
    return Pairs(
        pairs.positive & (s - epsilon < most), pairs.negative & (s + epsilon > least)
    )


def batch_hard_pairs(
    similarities: ArrayLike,
    labels: ArrayLike,
    *,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> Pairs:
    r"""The farthest positive and the nearest negative of each anchor.

    Use it with ``losses.triplet_margin_loss``: one triplet for each anchor, the hardest
    one. Where labels are noisy the hardest pairs are the wrong ones.

    .. math:: \operatorname*{arg\,min}_{p \in P} s_p, \qquad
        \operatorname*{arg\,max}_{n \in N} s_n

    Shapes: similarities [B, M], labels [B], reference_labels [M] -> ([B, M], [B, M])

    Args and errors are those of ``multi_similarity_pairs``.

    Returns:
      ``Pairs`` of two bool arrays [B, M]; of equal similarities the first is taken.

    Source: Hermans, Beyer and Leibe 2017, arXiv:1703.07737.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import batch_hard_pairs
    >>> s = jnp.float32([[1, 0.8, 0.75, 0.1]])
    >>> labels, others = jnp.array([0]), jnp.array([0, 0, 1, 1])
    >>> pairs = batch_hard_pairs(s, labels, reference_labels=others)
    >>> print(pairs.positive.astype(int), pairs.negative.astype(int))
    [[0 1 0 0]] [[0 0 1 0]]
    """
    s, pairs = _candidates(similarities, labels, reference_labels, mask, reference_mask)
    return Pairs(
        pairs.positive & _is_first(jnp.where(pairs.positive, -s, -jnp.inf)),
        pairs.negative & _is_first(jnp.where(pairs.negative, s, -jnp.inf)),
    )


def distance_weighted_pairs(
    key: jax.Array,
    similarities: ArrayLike,
    labels: ArrayLike,
    *,
    dim: int,
    negatives: int = 1,
    cutoff: ArrayLike = 0.5,
    farthest: ArrayLike = 1.4,
    reference_labels: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> Pairs:
    r"""All positives, and negatives drawn evenly over their distances.

    Use it where most negatives are too far away to teach anything and the hardest are
    noise: near ones are drawn as often as far ones, though there are fewer of them.

    .. math:: \Pr(n) \propto 1 / q(\max(d_n, c)), \quad
        q(d) = d^{D - 2} \bigl(1 - d^2 / 4\bigr)^{(D - 3) / 2}, \quad
        d_n = \sqrt{2 - 2 s_n}

    with q the density of distances between random points of the sphere.

    Shapes: key [], similarities [B, M], labels [B], reference_labels [M]
      -> ([B, M], [B, M])

    Args:
      key: of ``jax.random``.
      similarities: cosines of anchors and references; no gradient.
      labels: ints; an example with a negative one is in no pair.
      dim: D, the width of the embeddings, at least 2.
      negatives: how many are drawn for each anchor, without replacement; fewer where
        there are fewer.
      cutoff: c, the distance below which all count alike.
      farthest: the distance from which on negatives are not drawn.
      reference_labels: ints [M]; without them the anchors are compared with each other,
        and none with itself.
      mask: bool [B], False leaves an anchor out.
      reference_mask: bool [M], False leaves a reference out.

    Returns:
      ``Pairs`` of two bool arrays [B, M].

    Raises:
      TypeError: similarities are not floating point, labels not integers, masks not
        bool, or ``dim`` or ``negatives`` no Python integer.
      ValueError: the shapes disagree, or a number is outside its range.

    Source: Wu et al. 2017, arXiv:1706.07567.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.targets import distance_weighted_pairs
    >>> s, labels = 0.5 * jnp.ones((4, 4)), jnp.array([0, 0, 1, 1])
    >>> pairs = distance_weighted_pairs(jax.random.key(0), s, labels, dim=8)
    >>> pairs.negative.sum(-1)
    Array([1, 1, 1, 1], dtype=int32)
    """
    s, pairs = _candidates(similarities, labels, reference_labels, mask, reference_mask)
    check_count("dim", dim, 2)
    check_count("negatives", negatives)
    cutoff = hyper("cutoff", cutoff, s.dtype, lambda c: (c > 0) & (c < 2), "in (0, 2)")
    farthest = hyper("farthest", farthest, s.dtype, lambda d: d > 0, "above 0")
    square = jnp.maximum(2 - 2 * jnp.clip(s, -1, 1), cutoff * cutoff)
    tiny = jnp.finfo(s.dtype).tiny  # beyond the far side of the sphere there is nothing
    log_q = (dim - 2) / 2 * jnp.log(square) + (dim - 3) / 2 * jnp.log(
        jnp.maximum(1 - square / 4, tiny)
    )
    allowed = pairs.negative & (square < farthest * farthest)
    draws = jax.random.gumbel(key, s.shape, s.dtype) - log_q
    draws = jnp.where(allowed, draws, -jnp.inf)
    least = jax.lax.top_k(draws, min(negatives, s.shape[1]))[0][:, -1:]
    return Pairs(pairs.positive, allowed & (draws >= least))


def _candidates(similarities, labels, reference_labels, mask, reference_mask):
    """Similarities, anything where there is no pair, and the pairs."""
    s = numerics.promote_to_float32(similarities, "similarities")
    pairs = label_pairs(
        labels, reference_labels, mask=mask, reference_mask=reference_mask
    )
    shape = pairs.positive.shape
    if s.shape != shape:
        raise ValueError(
            f"similarities has shape {s.shape}, expected {shape}, anchors and what "
            "they are compared with"
        )
    return s, pairs


def _extreme(of, s, where, empty):
    return of(s, -1, keepdims=True, where=where, initial=empty)


def _is_first(x):
    """Where the largest entry of each row is; the first of equal ones."""
    return jnp.arange(x.shape[1])[None] == jnp.argmax(x, -1)[:, None]
