"""Losses of episodes: few examples of each class, and queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.neighborhoods import icnn_score
from logitlab.numerics._lengths import length
from logitlab.numerics.arguments import hyper

__all__ = ["icnn_loss", "proto_triplet_loss"]


def proto_triplet_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
) -> jax.Array:
    r"""Triplet loss against the prototypes of classes, one value per query.

    Use it when queries should be nearer to their own class than to the next one by a
    margin.

    .. math:: \ell = \bigl[d(e, w_y) - \min_{c \ne y} d(e, w_c) + m\bigr]_+, \quad
        d(e, w) = \sqrt{\|e - w\|^2 + 10^{-6}}

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: of queries, taken as they are.
      labels: ints in ``[0, C)``, or negative for an example without a label.
      kernel: the prototypes, such as ``transforms.prototypes(support, labels, C)``,
        which get a gradient too.
      margin: m.

    Returns:
      float32 (float64 for float64); NaN without a label, 0 with a single class. Of
      classes that are equally near the first has the slope.

    Raises:
      TypeError: an array is not floating point or ``labels`` not integer.
      ValueError: the shapes disagree, or a label of C or more.

    Numerics: relative error below 1e-5 of the distances, value and gradient.

    Source: SuSana Distancia, 2023, arXiv:2305.09062.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import proto_triplet_loss
    >>> queries, kernel = jnp.float32([[1, 0], [2, 0]]), jnp.float32([[0, 3], [0, 0]])
    >>> losses = proto_triplet_loss(queries, jnp.array([0, 0]), kernel)
    >>> [f"{x:.3f}" for x in losses]  # at distances 1 and 2, and 2 and 1
    ['0.000', '1.500']
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    w = numerics.promote_to_float32(kernel, "kernel")
    if e.ndim == 0 or w.ndim != 2 or w.shape[0] != e.shape[-1] or w.shape[1] == 0:
        raise ValueError(
            f"kernel has shape {w.shape}, expected [D, C] with D the width of "
            f"embeddings, {e.shape}"
        )
    y, known = numerics.check_labels(labels, e.shape[:-1], w.shape[1])
    margin = hyper("margin", margin, e.dtype)
    gap = e[..., None, :] - w.T.astype(e.dtype).reshape((1,) * (e.ndim - 1) + w.T.shape)
    # The constant is the square of one more coordinate.
    more = jnp.full_like(gap[..., :1], 1e-3)
    d = length(jnp.concatenate([gap, more], -1))
    own = numerics.is_label(d, y)
    near = jnp.sum(jnp.where(own, d, 0), -1)
    others = jnp.where(own, jnp.inf, d)
    at = jnp.argmin(others, -1)
    far = jnp.take_along_axis(d, at[..., None], -1)[..., 0]
    losses = jax.nn.relu(near - far + margin)
    losses = losses if w.shape[1] > 1 else jnp.zeros_like(losses)
    return jnp.where(known, losses, jnp.nan)


def icnn_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 4,
    neighbors: int | None = None,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    drop_first: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the logarithm of ``metrics.icnn_score``: one number for a set.

    Use it when nearest neighbors should be of the same class and of even distances.

    .. math:: \ell = -\log \max(\mathrm{ICNN}, 10^{-12})

    Shapes: embeddings [N, D], labels [N] -> []

    Args, errors and the source are those of ``metrics.icnn_score``.

    Returns:
      Nats, float32 (float64 for float64), 0 without examples. Which examples are
      neighbors is a constant to the gradient.

    Numerics: relative error below 1e-4, value and gradient.

    Source: SuSana Distancia, 2023, arXiv:2305.09062; the terms that the authors' code
      trains with.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import icnn_loss
    >>> e = jnp.float32([[0], [1], [2], [7], [8], [9]])
    >>> print(f"{icnn_loss(e, jnp.array([0, 0, 0, 1, 1, 1]), k=2):.3f}")
    0.058
    """
    score = icnn_score(
        embeddings,
        labels,
        k=k,
        neighbors=neighbors,
        reference=reference,
        reference_labels=reference_labels,
        drop_first=drop_first,
        mask=mask,
    )
    return -jnp.log(jnp.maximum(score, 1e-12))
