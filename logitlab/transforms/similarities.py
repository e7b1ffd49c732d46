"""Embeddings to cosine similarities, whose rows are rows of logits."""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import hyper

__all__ = ["cosine_logits", "cosine_similarities", "normalize"]


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
    >>> normalize(jnp.float32([[3e30, 4e30], [0, 0]]))
    Array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
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
    >>> cosine_logits(jnp.float32([3, 4]), jnp.eye(2), scale=10.0).round(3)
    Array([6., 8.], dtype=float32)
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


def _rows(embeddings, name):
    """Promoted embeddings, one row each."""
    e = numerics.promote_to_float32(embeddings, name)
    if e.ndim != 2:
        raise ValueError(f"{name} has shape {e.shape}, expected one row per example")
    return e
