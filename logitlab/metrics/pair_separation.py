"""How far similarities of positive pairs lie above those of negative ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.selective import auroc
from logitlab.targets import Pairs

__all__ = ["pair_overlap", "wdfs_gap"]


def wdfs_gap(similarities: ArrayLike, pairs: Pairs) -> jax.Array:
    r"""The least similarity of a positive pair minus the greatest of a negative one.

    Above 0 the feature space is well discriminative (WDFS): one threshold tells all
    pairs apart. Two pairs decide it; ``pair_overlap`` looks at all.

    .. math:: \min_{P} S_{ij} - \max_{N} S_{ij}

    Shapes: similarities [B, M], pairs [B, M] -> []

    Args:
      similarities: of ``transforms.cosine_similarities``, for instance.
      pairs: ``targets.Pairs`` of two bool [B, M].

    Returns:
      In the unit of the similarities, float32 (float64 for float64); ``inf`` where one
      kind of pair is missing.

    Raises:
      TypeError: ``similarities`` is not floating point, or pairs are not bool.
      ValueError: the shapes differ.

    Source: Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import wdfs_gap
    >>> from logitlab.targets import label_pairs
    >>> similarities = jnp.float32([[1, 0.75, 0], [0.75, 1, 0.5], [0, 0.5, 1]])
    >>> print(wdfs_gap(similarities, label_pairs([0, 0, 1])))
    0.25
    """
    s, positive, negative = _arguments(similarities, pairs)
    least = jnp.min(jnp.where(positive, s, jnp.inf), initial=jnp.inf)
    return least - jnp.max(jnp.where(negative, s, -jnp.inf), initial=-jnp.inf)


def pair_overlap(similarities: ArrayLike, pairs: Pairs) -> jax.Array:
    r"""Share of positive and negative pairs that stand in the wrong order.

    .. math:: \frac{1}{|P| |N|} \sum_{p \in P, n \in N} [S_p < S_n]
        + \tfrac12 [S_p = S_n]

    1 minus the ``auroc`` of telling them apart by similarity.

    Shapes: similarities [B, M], pairs [B, M] -> []

    Args:
      similarities: of ``transforms.cosine_similarities``, for instance.
      pairs: ``targets.Pairs`` of two bool [B, M].

    Returns:
      Between 0 and 1, float32 (float64 for float64); 0 where one kind of pair is
      missing.

    Raises:
      TypeError: ``similarities`` is not floating point, or pairs are not bool.
      ValueError: the shapes differ.

    Source: Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import pair_overlap
    >>> from logitlab.targets import label_pairs
    >>> similarities = jnp.float32([[1, 0.25, 0], [0.25, 1, 0.5], [0, 0.5, 1]])
    >>> print(pair_overlap(similarities, label_pairs([0, 0, 1])))
    0.5
    """
    s, positive, negative = _arguments(similarities, pairs)
    area = auroc(s, s, inside_mask=positive, outside_mask=negative)
    return jnp.where(positive.any() & negative.any(), 1 - area, 0)


def _arguments(similarities, pairs):
    """Promoted similarities, and which are of positive and which of negative pairs."""
    s = numerics.promote_to_float32(similarities, "similarities")
    return s, *(
        numerics.check_mask(array, s.shape, f"pairs.{name}")
        for name, array in zip(Pairs._fields, pairs, strict=True)
    )
