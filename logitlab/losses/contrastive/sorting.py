"""Losses of the order of similarities: positives have to be sorted behind negatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import check_count
from logitlab.transforms.sorting import Distribution, Network, diff_sort

__all__ = ["groco_loss", "group_order_bce_loss"]

_LEAST = 2.0**-119  # of probabilities: of what is smaller, slopes would overflow


def groco_loss(
    embeddings: ArrayLike,
    *,
    negatives: int = 10,
    positive_views: int | None = None,
    steepness: ArrayLike = 1.0,
    distribution: Distribution = "cauchy",
    network: Network = "odd_even",
    stop_gradient: bool = True,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Group ordering constraints (GroCo), one value for each image of a batch.

    Use it when only the order should count: an image's other views before the nearest
    of other images, however near these are.

    Of each view v of image i the cosines with its other views and with the K nearest
    images of the same view are sorted by ``transforms.diff_sort``, the negatives first:

    .. math:: \ell_i = \operatorname*{mean}_{v, j} \Bigl(-\log \sum_{k \in G_j}
        X^{(iv)}_{jk}\Bigr)

    with X the soft permutation and G the places of an input's group, which is
    ``group_order_bce_loss``.

    Shapes: embeddings [B, V, D] -> [B]

    Args:
      embeddings: of V views of B images, of any length.
      negatives: K, a Python number, at most B - 1. Where a mask leaves fewer, the
        others count as opposite to the anchor.
      positive_views: only the first of the views are positives, full crops for
        instance; all views by default.
      steepness: of the sorting, above 0.
      distribution: of the sorting.
      network: of the sorting.
      stop_gradient: only the anchor gets a gradient, as in the authors' code.
      mask: bool [B], the images that take part; the others cost 0.

    Returns:
      Nats, float32 (float64 for float64).

    Raises:
      TypeError: ``embeddings`` is not floating point, ``mask`` not bool, or a number of
        things no Python integer.
      ValueError: a shape does not fit, or a number is outside its range.

    Numerics: absolute error below 1e-5. Given the similarities, relative error below
      1e-5, value and gradient, of probabilities down to 1.5e-36.

    Source: Learning by Sorting, Shvetsova et al. 2023, arXiv:2301.02009.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import groco_loss
    >>> views = jnp.float32([[[1, 0], [1, 1]], [[0, 1], [-1, 1]]])
    >>> [f"{x:.3f}" for x in groco_loss(views, negatives=1)]
    ['0.363', '0.363']
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if e.ndim != 3 or e.shape[1] < 2:
        raise ValueError(
            f"embeddings has shape {e.shape}, expected [B, V, D] of two views or more"
        )
    check_count("negatives", negatives)
    if negatives > len(e) - 1:
        raise ValueError(
            f"negatives is {negatives}, expected at most {len(e) - 1}, the other images"
        )
    views = e.shape[1]
    first = views if positive_views is None else positive_views
    check_count("positive_views", first)
    if first > views or views == 1:
        raise ValueError(f"positive_views is {first}, expected at most {views}")
    keep = numerics.check_mask(mask, e.shape[:1])
    e = unit(jnp.where(keep[:, None, None], e, 0))
    total = jnp.zeros(len(e), e.dtype)
    for view in range(views):
        others = [u for u in range(first) if u != view]
        if not others:  # the only positive view has no other one
            continue
        similarities = _in_order(e, view, others, negatives, keep, stop_gradient)
        permutation = diff_sort(
            similarities,
            network=network,
            steepness=steepness,
            distribution=distribution,
        ).permutation
        costs = group_order_bce_loss(permutation, negatives=negatives)
        total += jnp.mean(costs, -1)
    return jnp.where(keep, total / (views - (first == 1)), 0)


def group_order_bce_loss(permutation: ArrayLike, *, negatives: int) -> jax.Array:
    r"""Cross-entropy of being sorted into one's group, one value for each input.

    Use it when some of the inputs of a soft sort have to come before the others.

    .. math:: \ell_i = -\log \sum_{j \in G_i} X_{ij}

    with G the first K places for the first K inputs, which are negatives, and the other
    places for the others. Of a doubly stochastic X both groups' sums are exact, so that
    no probability has to be clipped away from 1.

    Shapes: permutation [..., N, P] -> [..., N]

    Args:
      permutation: how much of each input, a row, is in each place, such as
        ``transforms.diff_sort(values).permutation``.
      negatives: K, a Python number: how many inputs, and places, are of the first
        group.

    Returns:
      Nats, float32 (float64 for float64).

    Raises:
      TypeError: ``permutation`` is not floating point or ``negatives`` no Python
        integer.
      ValueError: there are fewer than two axes, or fewer than K inputs or places.

    Numerics: relative error below 1e-5 of probabilities down to 1.5e-36, which stands
      for all below it, with zero gradient.

    Source: Learning by Sorting, Shvetsova et al. 2023, arXiv:2301.02009.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import group_order_bce_loss
    >>> from logitlab.transforms import diff_sort
    >>> soft = diff_sort(jnp.float32([0, 1, 2])).permutation
    >>> [f"{x:.3f}" for x in group_order_bce_loss(soft, negatives=1)]
    ['0.530', '0.429', '0.065']
    """
    x = numerics.promote_to_float32(permutation, "permutation")
    check_count("negatives", negatives, 0)
    if x.ndim < 2:
        raise ValueError(f"permutation has shape {x.shape}, expected [..., N, N]")
    if negatives > min(x.shape[-2:]):
        raise ValueError(
            f"negatives is {negatives}, expected at most {min(x.shape[-2:])}, as "
            f"permutation has shape {x.shape}"
        )
    before, there = (
        jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) < negatives
        for axis in (x.ndim - 2, x.ndim - 1)
    )
    right = jnp.sum(jnp.where(before == there, x, 0), -1)
    return -jnp.log(jnp.maximum(right, _LEAST))


def _in_order(e, view, others, negatives, keep, stop_gradient):
    """Similarities of the nearest images, then of other views, each ascending."""
    anchor = e[:, view]
    fixed = jax.lax.stop_gradient(e) if stop_gradient else e
    pairs = keep[:, None] & keep[None] & ~jnp.eye(len(e), dtype=bool)
    across = jnp.where(pairs, anchor @ fixed[:, view].T, -1)
    nearest = jax.lax.top_k(across, negatives)[0][:, ::-1]
    same = jnp.einsum("bd,bvd->bv", anchor, fixed[:, jnp.array(others)])
    return jnp.concatenate([nearest, jnp.sort(same, -1)], -1)
