"""Each anchor's positives among everything that it is compared with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.contrastive._comparisons import compare
from logitlab.numerics.arguments import hyper
from logitlab.targets import Pairs, label_pairs, pair_probs
from logitlab.transforms import cosine_similarities

__all__ = ["infonce_loss", "ntxent_loss", "simclr_ntxent_loss", "supcon_loss"]


def supcon_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    temperature: ArrayLike,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Supervised contrastive loss (SupCon), one value per anchor of a batch.

    Use it when classes have several examples in a batch; the default choice.

    .. math:: \ell_i = -\frac{1}{|P_i|} \sum_{p \in P_i} \log
        \frac{e^{S_{ip} / \tau}}{\sum_{k \in P_i \cup N_i} e^{S_{ik} / \tau}}

    with S the cosine similarities, P an anchor's positives and N its negatives. It is
    the cross-entropy of a transform, and so any other loss may take its place::

        pairs = targets.label_pairs(labels)
        logits = transforms.cosine_similarities(embeddings) / temperature
        where = pairs.positive | pairs.negative
        losses.focal_loss(logits, targets.pair_probs(pairs), where=where)

    An anchor without a positive costs 0. The objective is the mean over those that have
    one: ``numerics.masked_mean(losses, pairs.positive.any(-1))``.

    Shapes: embeddings [B, D], labels [B], reference [M, D], reference_labels [M], mask
      [B], reference_mask [M] -> [B]

    Args:
      embeddings: the anchors, of any length; only directions count.
      labels: ints, a negative one for an example that is in no pair.
      temperature: above 0; 0.1 in the paper.
      reference: what the anchors are compared with, such as a memory of past
        embeddings; by default the other anchors.
      reference_labels: ints.
      pairs: ``Pairs`` of bool [B, M], from a miner for instance, in place of the pairs
        by label; labels may then be None.
      mask: bool, the anchors that count, and without ``reference`` the references too.
      reference_mask: bool, the references that count.

    Returns:
      Nats, float32 (float64 for float64 embeddings).

    Raises:
      TypeError: embeddings are not floating point, labels not integer, masks not bool.
      ValueError: shapes that do not fit together, a reference without labels, or
        ``temperature`` not above 0.

    Numerics: given the similarities, relative error below 1e-5 for temperatures down to
      0.01, value and gradient; the similarities have an absolute error of 1e-7, of
      which the temperature makes a relative one.

    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import supcon_loss
    >>> embeddings, labels = jnp.eye(4), jnp.array([0, 0, 1, 1])
    >>> print(supcon_loss(embeddings, labels, temperature=0.1).round(4))
    [1.0986 1.0986 1.0986 1.0986]
    """
    compared = compare(
        embeddings, labels, reference, reference_labels, pairs, mask, reference_mask
    )
    return _among_all(*_logits(temperature, *compared))


def ntxent_loss(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    *,
    temperature: ArrayLike,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    pairs: Pairs | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Normalized temperature-scaled cross-entropy by label, one value per anchor.

    Use it when positives of an anchor should not compete with each other.

    .. math:: \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} \log
        \Bigl(1 + \sum_{n \in N_i} e^{(S_{in} - S_{ip}) / \tau}\Bigr)

    Each positive alone against all negatives: the ``sigmoid_cross_entropy`` of ``logits
    - logsumexp(logits, where=pairs.negative)`` where a pair is positive, in whose place
    any other binary loss may stand. pytorch-metric-learning averages over pairs, that
    is over anchors in proportion to :math:`|P_i|`::

        count = pairs.positive.sum(-1)
        (count * losses).sum() / count.sum()

    Shapes: embeddings [B, D], labels [B], reference [M, D], reference_labels [M], mask
      [B], reference_mask [M] -> [B]

    Args and errors are those of ``supcon_loss``; ``temperature`` is 0.07 in
    pytorch-metric-learning. An anchor without a positive or without a negative costs 0.

    Returns:
      Nats, float32 (float64 for float64 embeddings).

    Numerics: as for ``supcon_loss``.

    Source: Sohn 2016, "Improved deep metric learning with multi-class N-pair loss
      objective"; ``NTXentLoss`` of pytorch-metric-learning.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ntxent_loss
    >>> embeddings, labels = jnp.eye(3), jnp.array([0, 0, 1])
    >>> print(ntxent_loss(embeddings, labels, temperature=0.1).round(4))
    [0.6931 0.6931 0.    ]
    """
    compared = compare(
        embeddings, labels, reference, reference_labels, pairs, mask, reference_mask
    )
    return _each_alone(*_logits(temperature, *compared))


def simclr_ntxent_loss(
    embeddings: ArrayLike,
    reference: ArrayLike,
    *,
    temperature: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""SimCLR's loss of two views of each example, one value per example of a batch.

    Use it when there are no labels, and two augmented views of each example.

    .. math:: \ell_i = \frac12 \sum_{v \in \{i, i'\}} \log
        \sum_{k \ne v} e^{(S_{vk} - S_{ii'}) / \tau}

    over all views k of the batch but v itself: the mean over examples is the mean over
    all 2 B views. It is ``supcon_loss`` with one label for each example.

    Shapes: embeddings [B, D], reference [B, D], mask [B] -> [B]

    Args:
      embeddings: of one view of each example, of any length.
      reference: of another view of the same examples.
      temperature: above 0; 0.5 in the paper for small batches, 0.1 for large ones.
      mask: bool, the examples that count.

    Returns:
      Nats, float32 (float64 for float64 embeddings).

    Raises:
      TypeError: an argument is not floating point, or ``mask`` not bool.
      ValueError: shapes that do not fit together, or ``temperature`` not above 0.

    Numerics: as for ``supcon_loss``.

    Source: Chen et al. 2020, arXiv:2002.05709.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import simclr_ntxent_loss
    >>> views = jnp.eye(2)
    >>> print(simclr_ntxent_loss(views, views, temperature=0.5).round(4))
    [0.2395 0.2395]
    """
    first, second = _two_sides(embeddings, reference)
    ids = jnp.tile(jnp.arange(len(first)), 2)
    if mask is not None:
        mask = jnp.tile(numerics.check_mask(mask, first.shape[:1]), 2)
    both = jnp.concatenate([first, second])
    each = supcon_loss(both, ids, temperature=temperature, mask=mask)
    return each.reshape(2, -1).mean(0)


def infonce_loss(
    embeddings: ArrayLike,
    reference: ArrayLike,
    *,
    temperature: ArrayLike,
    symmetric: bool = False,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""InfoNCE: which reference belongs to an anchor, one value per anchor of a batch.

    Use it when examples come in pairs of two kinds, such as images and their captions.

    .. math:: \ell_i = \log \sum_j e^{(S_{ij} - S_{ii}) / \tau}

    It is the cross-entropy of ``cosine_similarities(embeddings, reference) /
    temperature`` with ``arange(B)`` for labels, in whose place any other loss may
    stand, label smoothing for instance. With ``symmetric`` it is averaged with that of
    the references, which is CLIP's loss.

    Shapes: embeddings [B, D], reference [M, D], mask [B], reference_mask [M] -> [B]

    Args:
      embeddings: the anchors, of any length; only directions count.
      reference: M of at least B: the first B belong to the anchors, in their order; any
        others, as of a memory, are negatives of all.
      temperature: above 0, maybe learned; 0.07 in CLIP at the start.
      symmetric: also asks which anchor belongs to a reference; needs M = B.
      mask: bool, the anchors that count, each with its own reference.
      reference_mask: bool, the references that count; an anchor without its own costs
        0.

    Returns:
      Nats, float32 (float64 for float64 embeddings).

    Raises:
      TypeError: an argument is not floating point, or a mask not bool.
      ValueError: shapes that do not fit together, fewer references than anchors, or
        ``temperature`` not above 0.

    Numerics: as for ``supcon_loss``.

    Source: van den Oord et al. 2018, arXiv:1807.03748; CLIP, Radford et al. 2021,
      arXiv:2103.00020.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import infonce_loss
    >>> print(infonce_loss(jnp.eye(2), jnp.eye(2), temperature=0.5).round(4))
    [0.1269 0.1269]
    """
    e, r = _two_sides(embeddings, reference, more=not symmetric)
    count, size = len(e), len(r)
    keep = numerics.check_mask(mask, (count,))
    rest = jnp.ones(size - count, bool)
    others = numerics.check_mask(reference_mask, (size,), "reference_mask")
    others &= jnp.concatenate([keep, rest])
    pairs = label_pairs(
        jnp.arange(count), jnp.arange(size), mask=keep, reference_mask=others
    )
    similarities = cosine_similarities(
        jnp.where(keep[:, None], e, 0), jnp.where(others[:, None], r, 0)
    )
    z, pairs = _logits(temperature, similarities, pairs)
    losses = _among_all(z, pairs)
    if symmetric:
        turned = Pairs(pairs.positive.T, pairs.negative.T)
        losses = (losses + _among_all(z.T, turned)) / 2
    return losses


def _among_all(z, pairs):
    """Cross-entropy of the positives among all pairs of an anchor."""
    where = pairs.positive | pairs.negative
    return cross_entropy(z, pair_probs(pairs), where=where)


def _each_alone(z, pairs):
    """Cross-entropy of each positive among the negatives of an anchor, on average."""
    positive, negative = pairs
    counted = positive & jnp.any(negative, -1, keepdims=True)
    against = numerics.logsumexp(z, where=negative)[:, None]
    behind = jnp.where(against == -jnp.inf, 0, against) - z
    each = jnp.where(counted, jax.nn.softplus(behind), 0)
    count = jnp.sum(positive, -1, dtype=jnp.int32)
    return jnp.sum(each, -1) / jnp.maximum(count, 1).astype(z.dtype)


def _logits(temperature, similarities, pairs):
    """Similarities divided by the temperature, and the pairs."""
    dtype = similarities.dtype
    t = hyper("temperature", temperature, dtype, lambda t: t > 0, "above 0")
    return similarities / t, pairs


def _two_sides(embeddings, reference, more=False):
    """Promoted embeddings whose rows belong together, maybe with more references."""
    e = numerics.promote_to_float32(embeddings, "embeddings")
    r = numerics.promote_to_float32(reference, "reference")
    if e.ndim != 2:
        raise ValueError(
            f"embeddings has shape {e.shape}, expected one row per example"
        )
    fits = r.ndim == 2 and r.shape[1] == e.shape[1]
    if not fits or not (len(r) == len(e) or (more and len(r) > len(e))):
        least = f"at least {len(e)} rows" if more else f"{len(e)} rows"
        raise ValueError(
            f"reference has shape {r.shape}, expected {least} of width {e.shape[1]}"
        )
    return e, r
