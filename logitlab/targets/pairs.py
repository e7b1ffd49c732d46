"""Which pairs of examples should be similar, and which dissimilar."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["Pairs", "label_pairs", "pair_probs"]


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
    positions: ArrayLike | None = None,
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
      positions: ints [B], where the anchors stand among the references, as in a batch
        that was gathered over devices: no example is paired with itself. A negative one
        stands nowhere.
      mask: bool [B], False leaves an anchor out.
      reference_mask: bool [M], False leaves a reference out. Without
        ``reference_labels``, ``mask`` leaves examples out on both sides.

    Returns:
      ``Pairs`` of two bool arrays.

    Raises:
      TypeError: labels are no integers, or a mask is not bool.
      ValueError: labels, positions or masks of a wrong shape, or ``positions`` or
        ``reference_mask`` without ``reference_labels``.

    >>> from logitlab.targets import label_pairs
    >>> print(label_pairs([0, 0, 1]).positive.astype(int))
    [[0 1 0]
     [1 0 0]
     [0 0 0]]
    """
    a, keep = _side(labels, mask, "")
    if reference_labels is None:
        for name, array in (
            ("positions", positions),
            ("reference_mask", reference_mask),
        ):
            if array is not None:
                raise ValueError(f"{name} needs reference_labels, which is None")
        b, keep_b, positions = a, keep, jnp.arange(len(a))
    else:
        b, keep_b = _side(reference_labels, reference_mask, "reference_")
    same = a[:, None] == b[None, :]
    valid = keep[:, None] & keep_b[None, :]
    if positions is not None:
        positions = numerics.wide_labels(positions, "positions")
        if positions.shape != a.shape:
            raise ValueError(
                f"positions has shape {positions.shape}, expected {a.shape} as labels"
            )
        valid &= positions[:, None] != jnp.arange(len(b))[None, :]
    return Pairs(valid & same, valid & ~same)


def pair_probs(pairs: Pairs) -> jax.Array:
    r"""A distribution for each anchor: the same mass at each of its positives.

    Use it as the labels of similarities divided by a temperature, which are logits:
    under cross-entropy that is SupCon, under another loss what no paper has a name for.

    .. math:: q_{ij} = [j \in P_i] / |P_i|

    Shapes: pairs [B, M] -> [B, M]

    Args:
      pairs: of which ``positive | negative`` is the loss's ``where``.

    Returns:
      float32 (float64 under x64); an anchor without a positive has no mass, and costs
      nothing.

    >>> import jax.numpy as jnp
    >>> from logitlab import losses
    >>> from logitlab.targets import label_pairs, pair_probs
    >>> pairs = label_pairs([0, 0, 0, 1])
    >>> pair_probs(pairs)[0]
    Array([0. , 0.5, 0.5, 0. ], dtype=float32)
    >>> logits = jnp.float32([[0, 1, 2, 0], [1, 0, 1, 0], [2, 1, 0, 1], [1, 1, 1, 0]])
    >>> where = pairs.positive | pairs.negative
    >>> losses.focal_loss(logits, pair_probs(pairs), where=where)[3]
    Array(0., dtype=float32)
    """
    count = jnp.sum(pairs.positive, -1, keepdims=True, dtype=jnp.int32)
    return jnp.where(pairs.positive, 1 / jnp.maximum(count, 1).astype(float), 0)


def _side(labels, mask, prefix):
    """Labels of one side, and which of its examples take part."""
    labels = numerics.wide_labels(labels, f"{prefix}labels")
    if labels.ndim != 1:
        raise ValueError(
            f"{prefix}labels has shape {labels.shape}, expected one axis, examples"
        )
    keep = labels >= 0
    return labels, keep & numerics.check_mask(mask, labels.shape, f"{prefix}mask")
