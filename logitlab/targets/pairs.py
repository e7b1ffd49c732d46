"""Which pairs of examples should be similar, and which dissimilar."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["Pairs", "label_pairs"]


class Pairs(NamedTuple):
    """The pairs of anchors and references that a loss compares.

    ``a & b`` keeps the pairs that both keep, so that miners compose.

    Attributes:
      positive: bool [B, M], the references that each anchor should be near to.
      negative: bool [B, M], those that it should be far from.
    """

    positive: jax.Array
    negative: jax.Array

    def __and__(self, other: Pairs) -> Pairs:
        """The pairs of both."""
        return Pairs(self.positive & other.positive, self.negative & other.negative)


def label_pairs(
    labels: ArrayLike,
    reference_labels: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> Pairs:
    """Pairs by label: examples of one class are positive, of two classes negative.

    Use it where a loss or a miner asks for ``Pairs``. Without ``reference_labels`` the
    anchors are compared with each other, and no example with itself.

    Shapes: labels [B], reference_labels [M] -> [B, M], [B, M]

    Args:
      labels: ints; an example with a negative label is in no pair.
      reference_labels: ints, of the examples that the anchors are compared with.
      mask: bool [B], False leaves an anchor out.
      reference_mask: bool [M], False leaves a reference out. Without
        ``reference_labels``, ``mask`` leaves examples out on both sides.

    Returns:
      ``Pairs`` of two bool arrays.

    Raises:
      TypeError: labels are no integers, or a mask is not bool.
      ValueError: labels or masks of a wrong shape, or ``reference_mask`` without
        ``reference_labels``.

    >>> from logitlab.targets import label_pairs
    >>> print(label_pairs([0, 0, 1]).positive.astype(int))
    [[0 1 0]
     [1 0 0]
     [0 0 0]]
    """
    a, keep = _side(labels, mask, "")
    if reference_labels is None:
        if reference_mask is not None:
            raise ValueError("reference_mask needs reference_labels, which is None")
        b, keep_b, distinct = a, keep, ~jnp.eye(len(a), dtype=bool)
    else:
        b, keep_b = _side(reference_labels, reference_mask, "reference_")
        distinct = jnp.ones((len(a), len(b)), bool)
    same = a[:, None] == b[None, :]
    valid = keep[:, None] & keep_b[None, :] & distinct
    return Pairs(valid & same, valid & ~same)


def _side(labels, mask, prefix):
    """Labels of one side, and which of its examples take part."""
    labels = numerics.wide_labels(labels, f"{prefix}labels")
    if labels.ndim != 1:
        raise ValueError(
            f"{prefix}labels has shape {labels.shape}, expected one axis, examples"
        )
    keep = labels >= 0
    return labels, keep & numerics.check_mask(mask, labels.shape, f"{prefix}mask")
