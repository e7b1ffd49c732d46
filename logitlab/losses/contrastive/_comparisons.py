"""What all losses of pairs begin with: similarities, and which pairs count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.targets import Pairs, label_pairs
from logitlab.transforms import cosine_similarities

__all__ = ["compare", "compared_rows"]


def compare(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    reference: ArrayLike | None,
    reference_labels: ArrayLike | None,
    pairs: Pairs | None,
    mask: ArrayLike | None,
    reference_mask: ArrayLike | None,
) -> tuple[jax.Array, Pairs]:
    """Cosine similarities [B, M] of anchors and references, and the pairs that count.

    Raises:
      TypeError: embeddings are not floating point, labels not integer, masks not bool.
      ValueError: names the argument whose shape does not fit, or that is missing.
    """
    e, r, pairs = compared_rows(
        embeddings, labels, reference, reference_labels, pairs, mask, reference_mask
    )
    return cosine_similarities(e, r), pairs


def compared_rows(
    embeddings: ArrayLike,
    labels: ArrayLike | None,
    reference: ArrayLike | None,
    reference_labels: ArrayLike | None,
    pairs: Pairs | None,
    mask: ArrayLike | None,
    reference_mask: ArrayLike | None,
) -> tuple[jax.Array, jax.Array | None, Pairs]:
    """Promoted anchors and references (None: themselves), zeros where masked; pairs."""
    e = _rows(embeddings, mask, "")
    labels = _labels(labels, e, pairs, "")
    if reference is None:
        for name, array in (
            ("reference_labels", reference_labels),
            ("reference_mask", reference_mask),
        ):
            if array is not None:
                raise ValueError(f"{name} needs reference, which is None")
        r, reference_mask = None, mask
    else:
        r = _rows(reference, reference_mask, "reference_")
        reference_labels = _labels(reference_labels, r, pairs, "reference_")
    if pairs is None:
        keep = dict(mask=mask)
        if r is not None:
            keep["reference_mask"] = reference_mask
        return e, r, label_pairs(labels, reference_labels, **keep)
    shape = len(e), len(e if r is None else r)
    positive, negative = (
        numerics.check_mask(array, shape, f"pairs.{name}")
        for name, array in zip(Pairs._fields, pairs, strict=True)
    )
    keep = numerics.check_mask(mask, shape[:1])[:, None]
    keep &= numerics.check_mask(reference_mask, shape[1:])[None, :]
    return e, r, Pairs(positive & keep, negative & keep)


def _rows(embeddings, mask, prefix):
    """Promoted embeddings [B, D], zeros where a mask leaves them out."""
    name = prefix.rstrip("_") or "embeddings"
    e = numerics.promote_to_float32(embeddings, name)
    if e.ndim != 2:
        raise ValueError(f"{name} has shape {e.shape}, expected one row per example")
    if mask is None:
        return e
    return jnp.where(
        numerics.check_mask(mask, e.shape[:1], f"{prefix}mask")[:, None], e, 0
    )


def _labels(labels, rows, pairs, prefix):
    """Labels, one for each row; none are needed where pairs are given."""
    name = f"{prefix}labels"
    if labels is None:
        if pairs is None:
            raise ValueError(f"{name} is None, expected ints, or pairs")
        return None
    labels = numerics.wide_labels(labels, name)
    if labels.shape != rows.shape[:1]:
        raise ValueError(
            f"{name} has shape {labels.shape}, expected {rows.shape[:1]}, one for each "
            f"row of {prefix.rstrip('_') or 'embeddings'}, {rows.shape}"
        )
    return labels
