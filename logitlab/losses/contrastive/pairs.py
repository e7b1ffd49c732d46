"""Losses of pairs and triplets of embeddings: one value for each anchor."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.contrastive._comparisons import compared_rows
from logitlab.numerics._lengths import unit
from logitlab.numerics._triplets import triplet_sums
from logitlab.numerics.arguments import hyper
from logitlab.targets.pairs import Pairs

__all__ = [
    "circle_loss",
    "contrastive_pair_loss",
    "multi_similarity_loss",
    "triplet_margin_loss",
]


def contrastive_pair_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    positive_margin: ArrayLike = 0.0,
    negative_margin: ArrayLike = 1.0,
    squared: bool = False,
    average: Literal["anchor", "batch"] = "anchor",
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Contrastive loss of pairs: hinges of distances, one value for each anchor.

    Use it when positives should be nearer than one distance and negatives farther than
    another.

    .. math:: \ell_i = \operatorname*{mean}_{p \in P_i} [d_{ip} - m^+]_+ +
        \operatorname*{mean}_{n \in N_i} [m^- - d_{in}]_+, \quad
        d_{ij} = \|\hat e_i - \hat r_j\|

    over the pairs whose hinge is open. The objective is the mean over the anchors that
    have such a pair, ``numerics.masked_mean(losses, losses > 0)``. With
    ``average="batch"`` open pairs are counted in the batch instead of at the anchor:
    ``numerics.masked_mean(losses, mask)`` is then the mean over all open positive pairs
    plus that over all open negative ones, as in pytorch-metric-learning.

    Shapes: embeddings [B, D], labels [B] -> [B]

    Args:
      embeddings: one row for each anchor, of any length.
      labels: ints; an anchor with a negative one has no pairs. None with ``pairs``.
      positive_margin: the distance from which on positives cost, at least 0.
      negative_margin: the distance up to which negatives cost, at least 0.
      squared: halves of squares of the hinges, as in the paper, for the hinges.
      average: over the open pairs of each anchor, or of the batch.
      reference: [M, D], what the anchors are compared with, such as a memory; the
        embeddings themselves, each without itself, by default.
      reference_labels: ints [M], of the reference.
      pairs: two bool arrays [B, M] of a miner, in place of the labels.
      mask: bool [B], the examples that take part; the others cost 0.
      reference_mask: bool [M], likewise.

    Returns:
      float32 (float64 for float64). Anchors without pairs cost 0, with zero gradient.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, masks not bool.
      ValueError: the shapes disagree, a margin is negative, or a choice is unknown.

    Numerics: absolute error of a distance d below 1e-6 / d, and below 2e-3 at 0; given
      the similarities, relative error below 1e-5, value and gradient. Vectors that
      could be equal by rounding are at distance 0, with zero gradient.

    Source: Hadsell, Chopra and LeCun 2006, "Dimensionality reduction by learning an
      invariant mapping"; without the square as in pytorch-metric-learning.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import contrastive_pair_loss
    >>> e = jnp.float32([[1, 0], [0, 1], [3, 4], [3, 4]])
    >>> losses = contrastive_pair_loss(e, jnp.array([0, 0, 1, 1]))
    >>> [f"{x:.3f}" for x in losses]
    ['1.520', '1.782', '0.237', '0.237']
    """
    _check_choice("average", average, ("anchor", "batch"))
    e, r, pairs = _unit_rows(
        embeddings, labels, reference, reference_labels, pairs, mask, reference_mask
    )
    least = (lambda m: m >= 0), "at least 0"
    near = hyper("positive_margin", positive_margin, e.dtype, *least)
    far = hyper("negative_margin", negative_margin, e.dtype, *least)
    d = _distances(e, r)
    keep = numerics.check_mask(mask, e.shape[:1])
    parts = []
    for gap, kind in zip((d - near, far - d), pairs, strict=True):
        open_pairs = kind & (gap > 0)
        cost = jnp.where(open_pairs, gap, 0)
        total = jnp.sum(cost * cost / 2 if squared else cost, -1)
        count = jnp.sum(open_pairs, -1, dtype=e.dtype)
        parts.append(_averaged(total, count, average, keep))
    return parts[0] + parts[1]


def triplet_margin_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    margin: ArrayLike = 0.05,
    swap: bool = False,
    smooth: bool = False,
    average: Literal["anchor", "batch"] = "anchor",
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Triplet loss over all triplets of a batch, one value for each anchor.

    Use it when only the order of distances matters: positives nearer than negatives.

    .. math:: \ell_i = \operatorname*{mean}_{p \in P_i, n \in N_i}
        [d_{ip} - d_{in} + m]_+, \quad d_{ij} = \|\hat e_i - \hat r_j\|

    over the triplets whose hinge is open. The objective is the mean over the anchors
    that have such a triplet, ``numerics.masked_mean(losses, losses > 0)``. With
    ``average="batch"`` open triplets are counted in the batch instead of at the anchor:
    ``numerics.masked_mean(losses, mask)`` is then the mean over all of them, as in
    pytorch-metric-learning. On ``targets.batch_hard_pairs`` it is the batch-hard loss.

    Shapes: embeddings [B, D], labels [B] -> [B]

    Args:
      embeddings: one row for each anchor, of any length.
      labels: ints; an anchor with a negative one has no triplets. None with ``pairs``.
      margin: m.
      swap: takes the negative's distance to the positive where that is smaller. Each
        anchor then costs the square of the number of references.
      smooth: softplus for the hinge; all triplets count.
      average: over the open triplets of each anchor, or of the batch.
      reference, reference_labels, pairs, mask, reference_mask: as in
        ``contrastive_pair_loss``.

    Returns:
      float32 (float64 for float64). Anchors without a positive or without a negative
      cost 0, with zero gradient.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, masks not bool.
      ValueError: the shapes disagree or a choice is unknown.

    Numerics: memory is that of the pairs, time that of the pairs times the positives of
      the anchor that has most. Distances as in ``contrastive_pair_loss``; given the
      similarities, relative error below 1e-5, value and gradient. Of ``smooth`` without
      ``swap`` Hessians need forward over reverse mode, as ``jax.hessian`` takes them.

    Source: FaceNet, Schroff et al. 2015, arXiv:1503.03832; swap: Balntas et al. 2016,
      "Learning local feature descriptors with triplets and shallow convolutional neural
      networks"; averaged as in pytorch-metric-learning.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import triplet_margin_loss
    >>> e = jnp.float32([[1, 0], [0, 1], [3, 4], [4, 3]])
    >>> losses = triplet_margin_loss(e, jnp.array([0, 0, 1, 1]))
    >>> [f"{x:.3f}" for x in losses]
    ['0.701', '0.701', '0.000', '0.000']
    """
    _check_choice("average", average, ("anchor", "batch"))
    e, r, pairs = _unit_rows(
        embeddings, labels, reference, reference_labels, pairs, mask, reference_mask
    )
    total, count = triplet_sums(
        _distances(e, r),
        pairs.positive,
        pairs.negative,
        hyper("margin", margin, e.dtype),
        smooth=smooth,
        across=_distances(r, r) if swap else None,
    )
    keep = numerics.check_mask(mask, e.shape[:1])
    return _averaged(total, count, average, keep)


def circle_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    margin: ArrayLike = 0.4,
    gamma: ArrayLike = 80.0,
    similarity: Literal["cosine", "dot"] = "cosine",
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Circle loss, one value for each anchor.

    Use it when pairs that are far from their optimum should weigh more than others.

    .. math:: \ell_i = \log\Bigl(1 + \sum_{p \in P_i} e^{-\gamma \alpha_p (s_p - 1 + m)}
        \sum_{n \in N_i} e^{\gamma \alpha_n (s_n - m)}\Bigr), \quad
        \alpha_p = [1 + m - s_p]_+, \ \alpha_n = [s_n + m]_+

    with weights :math:`\alpha` that have no gradient. An anchor counts if it has a
    positive and a negative: average over these, for the loss of a separated anchor is
    small and not 0.

    Shapes: embeddings [B, D], labels [B] -> [B]

    Args:
      embeddings: one row for each anchor.
      labels: ints; an anchor with a negative one has no pairs. None with ``pairs``.
      margin: m; 0.25 for faces.
      gamma: the scale, above 0; 256 for faces.
      similarity: of the rows' directions, or the product of rows as they are.
      reference, reference_labels, pairs, mask, reference_mask: as in
        ``contrastive_pair_loss``.

    Returns:
      float32 (float64 for float64). Anchors without a positive or without a negative
      cost 0, with zero gradient.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, masks not bool.
      ValueError: the shapes disagree, ``gamma`` is not above 0, or a choice is unknown.

    Numerics: given the similarities, relative error below 1e-5 of exponents up to 80,
      value and gradient; a cosine's rounding comes on top, times gamma.

    Source: Circle Loss, Sun et al. 2020, arXiv:2002.10857.

    >>> import jax.numpy as jnp
    >>> from logitlab import numerics
    >>> from logitlab.losses import circle_loss
    >>> from logitlab.targets import label_pairs
    >>> e, labels = jnp.float32([[1, 0], [4, 3], [0, 1]]), jnp.array([0, 0, 1])
    >>> losses, pairs = circle_loss(e, labels, gamma=4.0), label_pairs(labels)
    >>> counts = pairs.positive.any(-1) & pairs.negative.any(-1)
    >>> print(f"{numerics.masked_mean(losses, counts):.3f}")
    0.574
    """
    s, (positive, negative) = _similarities(
        embeddings,
        labels,
        similarity,
        reference,
        reference_labels,
        pairs,
        mask,
        reference_mask,
    )
    m = hyper("margin", margin, s.dtype)
    gamma = hyper("gamma", gamma, s.dtype, lambda g: g > 0, "above 0")
    fixed = jax.lax.stop_gradient(s)
    pull = gamma * jax.nn.relu(1 + m - fixed) * (1 - m - s)
    push = gamma * jax.nn.relu(fixed + m) * (s - m)
    both = positive.any(-1) & negative.any(-1)
    exponent = numerics.logsumexp(pull, where=positive) + numerics.logsumexp(
        push, where=negative
    )
    return jnp.where(both, jax.nn.softplus(jnp.where(both, exponent, 0)), 0)


def multi_similarity_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    alpha: ArrayLike = 2.0,
    beta: ArrayLike = 50.0,
    base: ArrayLike = 0.5,
    similarity: Literal["cosine", "dot"] = "cosine",
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Multi-similarity loss, one value for each anchor.

    Use it when a pair should weigh by its own similarity and by those of the anchor's
    other pairs; best on the pairs of ``targets.multi_similarity_pairs``.

    .. math:: \ell_i =
        \frac1\alpha \log\Bigl(1 + \sum_{p \in P_i} e^{-\alpha (s_p - \lambda)}\Bigr) +
        \frac1\beta \log\Bigl(1 + \sum_{n \in N_i} e^{\beta (s_n - \lambda)}\Bigr)

    The paper averages over all anchors, those without pairs included. The weights of
    pairs are ``weights.gpw_weights``.

    Shapes: embeddings [B, D], labels [B] -> [B]

    Args:
      embeddings: one row for each anchor.
      labels: ints; an anchor with a negative one has no pairs. None with ``pairs``.
      alpha: sharpness among positives, above 0.
      beta: sharpness among negatives, above 0; 40 in the authors' code.
      base: lambda; 1 in the paper, 0.5 in the authors' code.
      similarity: of the rows' directions, or the product of rows as they are.
      reference, reference_labels, pairs, mask, reference_mask: as in
        ``contrastive_pair_loss``.

    Returns:
      float32 (float64 for float64). Without positives or without negatives that term
      is 0, with zero gradient.

    Raises:
      TypeError: embeddings are not floating point, labels not integers, masks not bool.
      ValueError: the shapes disagree, ``alpha`` or ``beta`` is not above 0, or a choice
        is unknown.

    Numerics: given the similarities, relative error below 1e-5 of exponents up to 80,
      value and gradient; a cosine's rounding comes on top, times beta.

    Source: Multi-Similarity Loss with General Pair Weighting, Wang et al. 2019,
      arXiv:1904.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multi_similarity_loss
    >>> from logitlab.targets import multi_similarity_pairs
    >>> from logitlab.transforms import cosine_similarities
    >>> e, labels = jnp.float32([[1, 0], [4, 3], [0, 1]]), jnp.array([0, 0, 1])
    >>> [f"{x:.3f}" for x in multi_similarity_loss(e, labels)]
    ['0.219', '0.319', '0.100']
    >>> mined = multi_similarity_pairs(cosine_similarities(e), labels)
    >>> multi_similarity_loss(e, labels, pairs=mined)
    Array([0., 0., 0.], dtype=float32)
    """
    s, (positive, negative) = _similarities(
        embeddings,
        labels,
        similarity,
        reference,
        reference_labels,
        pairs,
        mask,
        reference_mask,
    )
    above = (lambda v: v > 0), "above 0"
    alpha = hyper("alpha", alpha, s.dtype, *above)
    beta = hyper("beta", beta, s.dtype, *above)
    rise = s - hyper("base", base, s.dtype)
    pull = numerics.logsumexp(-alpha * rise, where=positive)
    push = numerics.logsumexp(beta * rise, where=negative)
    return jax.nn.softplus(pull) / alpha + jax.nn.softplus(push) / beta


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(
            f"{name} is {value!r}, expected {' or '.join(map(repr, choices))}"
        )


def _unit_rows(*operands):
    """Unit rows of both sides, of one dtype, and the pairs that take part."""
    e, r, pairs = compared_rows(*operands)
    e = unit(e)
    r = e if r is None else unit(r)
    return e, r, pairs


def _similarities(embeddings, labels, similarity, reference, *operands):
    """Similarities [B, M], and the pairs that take part."""
    _check_choice("similarity", similarity, ("cosine", "dot"))
    e, r, pairs = compared_rows(embeddings, labels, reference, *operands)
    if similarity == "cosine":
        e, r = unit(e), None if r is None else unit(r)
    return e @ (e if r is None else r).T, pairs


def _distances(e, r):
    """Between rows of length 1 or 0; 0 where they could be equal but for rounding."""
    ones = [jnp.any(a != 0, -1).astype(e.dtype) for a in (e, r)]
    square = ones[0][:, None] + ones[1][None] - 2 * (e @ r.T)
    some = square > 16 * jnp.finfo(e.dtype).eps
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)


def _averaged(total, count, average, keep):
    """Sums of costs over numbers of what costs, at each anchor or in the batch."""
    if average == "batch":
        anchors = jnp.sum(keep, dtype=count.dtype)
        return total * (anchors / jnp.maximum(jnp.sum(count), 1))
    return total / jnp.maximum(count, 1)
