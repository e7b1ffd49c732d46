"""Few examples of each class to a linear head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count

__all__ = ["prototypes"]


def prototypes(
    embeddings: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean embedding of each class, as the kernel of a head.

    Use it to classify by a few examples: ``transforms.cosine_logits(queries, kernel,
    scale=...)``, or ``losses.proto_triplet_loss``.

    .. math:: w_c = \operatorname*{mean}_{i : y_i = c} e_i

    Shapes: embeddings [N, D], labels [N] -> [D, C]

    Args:
      embeddings: of the support.
      labels: ints in ``[0, num_classes)``, or negative for an example without one.
      num_classes: C, a Python number.
      mask: bool [N], the examples that take part.

    Returns:
      One column for each class, float32 (float64 for float64); 0 for one without
      examples.

    Raises:
      TypeError: ``embeddings`` is not floating point, ``labels`` not integer, or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is ``num_classes`` or more (in no
        class under ``jit``).

    Source: Snell, Swersky and Zemel 2017, arXiv:1703.05175.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import prototypes
    >>> e = jnp.float32([[1, 0], [3, 0], [0, 5]])
    >>> print(prototypes(e, jnp.array([0, 0, 1]), 2))
    [[2. 0.]
     [0. 5.]]
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if e.ndim != 2:
        raise ValueError(f"embeddings has shape {e.shape}, expected [N, D]")
    check_count("num_classes", num_classes)
    keep = numerics.check_mask(mask, e.shape[:1])
    y = numerics.wide_labels(labels)
    if y.shape == keep.shape:
        y = jnp.where(keep, y, -1)
    y, known = numerics.check_labels(y, e.shape[:1], num_classes)
    e = jnp.where(known[:, None], e, 0)
    count = jax.ops.segment_sum(known.astype(e.dtype), y, num_classes)
    share = e / jnp.maximum(count, 1)[y][:, None]  # before they are added: no overflow
    return jax.ops.segment_sum(share, y, num_classes).T
