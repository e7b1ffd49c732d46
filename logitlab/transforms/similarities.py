"""Embeddings to cosine similarities, whose rows are rows of logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import hyper
from logitlab.targets import label_pairs

__all__ = ["cosine_logits", "cosine_similarities", "normalize", "unpg_negatives"]


def normalize(embeddings: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Vectors divided by their Euclidean length.

    Use it where directions matter and lengths do not.

    .. math:: \hat e = e / \|e\|, \quad \hat 0 = 0

    Shapes: embeddings [..., D] -> [..., D]

    Args:
      embeddings: of any length; a vector of zeros stays one, with zero gradient.
      axis: along which the vectors lie; 0 for the columns of a kernel.

    Returns:
      Unit vectors, float32 (float64 for float64).

    Raises:
      TypeError: ``embeddings`` is not floating point.
      ValueError: no such axis.

    Numerics: relative error below 1e-6 for lengths from 1e-30 to 1e30 (the sum of
      squares alone overflows from 2e19 on): each vector is first divided by a power of
      two of its size, which loses no digit.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import normalize
    >>> print(normalize(jnp.float32([[0, -2e30], [0, 0]])))
    [[ 0. -1.]
     [ 0.  0.]]
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if not isinstance(axis, int | np.integer):
        raise TypeError(f"axis is {axis!r}, expected one integer")
    if not -e.ndim <= axis < e.ndim:
        raise ValueError(
            f"axis {axis} is not an axis of embeddings with shape {e.shape}"
        )
    return unit(e, axis)


def cosine_similarities(
    embeddings: ArrayLike, reference: ArrayLike | None = None
) -> jax.Array:
    r"""Cosines of the angles between embeddings, or between two sets of them.

    Use it to compare embeddings: divided by a temperature, a row of it is a row of
    logits over the references, for any loss.

    .. math:: S_{ij} = \langle \hat e_i, \hat r_j \rangle

    Shapes: embeddings [B, D], reference [M, D] -> [B, M]

    Args:
      embeddings: one row for each anchor; a row of zeros has similarity 0 to all.
      reference: what they are compared with; the embeddings themselves by default.

    Returns:
      float32 (float64 for float64), in [-1, 1] up to rounding.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: an argument has not two axes, or the widths differ.

    Numerics: absolute error below 1e-6 for embeddings up to 1e30 where products are
      taken in float32. Accelerators multiply in fewer bits by default;
      ``jax.default_matmul_precision`` says how many.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import cosine_similarities
    >>> cosine_similarities(jnp.float32([[2, 0], [0, 5], [0, -1]]))
    Array([[ 1.,  0.,  0.],
           [ 0.,  1., -1.],
           [ 0., -1.,  1.]], dtype=float32)
    """
    e = _rows(embeddings, "embeddings")
    if reference is None:
        e = unit(e)
        return e @ e.T
    r = _rows(reference, "reference")
    if r.shape[1] != e.shape[1]:
        raise ValueError(
            f"reference has shape {r.shape}, expected rows of width {e.shape[1]} as "
            f"embeddings has, {e.shape}"
        )
    return unit(e) @ unit(r).T


def cosine_logits(
    embeddings: ArrayLike, kernel: ArrayLike, *, scale: ArrayLike
) -> jax.Array:
    r"""Logits of a head that sees only the directions of embeddings and classes.

    Use it in place of a linear head where classes differ in frequency or where
    embeddings will be compared by cosine.

    .. math:: z_c = s \, \langle \hat e, \hat w_c \rangle

    with :math:`w_c` a column of the kernel.

    Shapes: embeddings [..., D], kernel [D, C] -> [..., C]

    Args:
      embeddings: features, of any length; zeros give logits of 0.
      kernel: one column for each class: weights, proxies or prototypes.
      scale: the inverse temperature, above 0.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the kernel has not two axes or another width, or ``scale`` is not
        above 0.

    Numerics: as for ``cosine_similarities``, times the scale.

    Source: NormFace, Wang et al. 2017, arXiv:1704.06369.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import cosine_logits
    >>> print(cosine_logits(jnp.float32([0, 4]), jnp.eye(2), scale=10.0))
    [ 0. 10.]
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    w = numerics.promote_to_float32(kernel, "kernel")
    if e.ndim == 0 or w.ndim != 2 or w.shape[0] != e.shape[-1]:
        raise ValueError(
            f"kernel has shape {w.shape}, expected [D, C] with D the width of "
            f"embeddings, {e.shape}"
        )
    scale = hyper("scale", scale, e.dtype, lambda s: s > 0, "above 0")
    return scale * (unit(e) @ unit(w, 0))


def unpg_negatives(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    whisker: ArrayLike = 1.5,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Similarities of a batch's negative pairs without outliers (UNPG).

    Use it as more negatives of a margin head: times its scale they are logits that
    every example shares, see ``losses.unpg_loss``.

    .. math:: Q_1 - r (Q_3 - Q_1) \le S_{ij} \le Q_3 + r (Q_3 - Q_1), \quad i < j

    with the quartiles of the n negative pairs: of their similarities in order those at
    n/4 and 3n/4, rounded down, counted from 0.

    Shapes: embeddings [B, D], labels [B], mask [B] -> [B, B]

    Args:
      embeddings: of any length; both of a pair that is kept get their gradients.
      labels: ints; an example with a negative one is in no pair.
      whisker: r, at least 0, which keeps the middle half.
      mask: bool, the examples that count.

    Returns:
      float32 (float64 for float64); ``-inf``, which is no logit, for a pair that is not
      negative, an outlier, or there already the other way round.

    Raises:
      TypeError: ``embeddings`` is not floating point, ``labels`` not integer, or
        ``mask`` not bool.
      ValueError: shapes that do not fit together, or ``whisker`` negative.

    Numerics: as for ``cosine_similarities``. All pairs are sorted; the quartiles have
      no gradient.

    Source: Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import unpg_negatives
    >>> unpg_negatives(jnp.eye(2), jnp.arange(2))
    Array([[-inf,   0.],
           [-inf, -inf]], dtype=float32)
    """
    e = _rows(embeddings, "embeddings")
    keep = numerics.check_mask(mask, e.shape[:1])
    e = jnp.where(keep[:, None], e, 0)
    y = numerics.wide_labels(labels)
    if y.shape != keep.shape:
        raise ValueError(f"labels has shape {y.shape}, expected {keep.shape}")
    r = hyper("whisker", whisker, e.dtype, lambda r: r >= 0, "at least 0")
    similarities = cosine_similarities(e)
    negative = jnp.triu(label_pairs(y, mask=keep).negative)
    fixed = jax.lax.stop_gradient(similarities)
    ordered = jnp.sort(jnp.where(negative, fixed, jnp.inf), axis=None)
    count = jnp.sum(negative, dtype=jnp.int32)
    at = jnp.minimum(jnp.stack([count // 4, count * 3 // 4]), max(len(e) ** 2 - 1, 0))
    first, third = ordered[at] if len(e) else jnp.zeros(2, e.dtype)
    reach = jnp.where(negative.any(), r * (third - first), 0)
    kept = negative & (fixed >= first - reach) & (fixed <= third + reach)
    return jnp.where(kept, similarities, -jnp.inf)


def _rows(embeddings, name):
    """Promoted embeddings, one row each."""
    e = numerics.promote_to_float32(embeddings, name)
    if e.ndim != 2:
        raise ValueError(f"{name} has shape {e.shape}, expected one row per example")
    return e
