"""SPO: a classifier of how much preferred content was taken out of an answer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import arguments
from logitlab.numerics.arguments import check_range, weighted

__all__ = ["preference_degree_loss", "spo_loss"]


def preference_degree_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""SPO's self-supervised term: cross-entropy of the degradation level.

    Use it when you need the self-supervised term of ``spo_loss`` alone.

    .. math:: \ell = -\log p_y

    with y the level of :func:`degrade` and p the softmax of a linear head on the mean
    of the last hidden states of the answer's tokens (one head for chosen answers, one
    for rejected ones).

    Shapes: logits [..., C], labels [...], mask [...], where [..., C] -> [...]

    Args:
      logits: scores of the levels, one more than ``n_levels``.
      labels: ints in ``[0, C)``, what was done to the answer, or negative for an answer
        without a level; any integer where ``mask`` is False.
      mask: bool, the answers that have key phrases; the others cost 0.
      axis: the axis of levels of ``logits`` and ``where``.
      where: bool, the levels that there are.

    Returns:
      The loss in nats, float32 (float64 for float64 logits); NaN without a level.

    Raises:
      TypeError: ``labels`` is not integer or ``mask`` is not bool.
      ValueError: wrong shapes, or a level of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Li et al. 2024, arXiv:2409.17791; pooling and head inferred from the
      abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import preference_degree_loss
    >>> preference_degree_loss(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    kept = numerics.check_mask(mask, z.shape[:-1])
    y = numerics.wide_labels(labels)
    if mask is not None and y.shape == kept.shape:
        z, y = jnp.where(kept[..., None], z, 0), jnp.where(kept, y, 0)
    return jnp.where(kept, numerics.label_nll(z, y), 0)


def spo_loss(
    align_loss: ArrayLike, degree_loss: ArrayLike, *, gamma: ArrayLike = 0.1
) -> jax.Array:
    r"""SPO: an alignment loss plus the self-supervised ``preference_degree_loss``.

    Use it when an alignment loss gets a second, self-supervised term.

    .. math:: \ell = \ell_{align} + \gamma\, \ell_{degree}

    Shapes: align_loss [...], degree_loss [...] -> [...]

    Args:
      align_loss: any, DPO's by default.
      degree_loss: of :func:`preference_degree_loss`, of the same shape.
      gamma: weight, at least 0; 0.1 is inferred from the abstract. 0 leaves the second
        loss out, whatever it is.

    Returns:
      The sum, float32 (float64 for float64 ``align_loss``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``gamma`` is negative.

    Numerics: two roundings.

    Source: Li et al. 2024, arXiv:2409.17791.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import spo_loss
    >>> spo_loss(jnp.float32([1]), jnp.float32([2]))
    Array([1.2], dtype=float32)
    """
    check_range("gamma", gamma, lambda g: g >= 0, "at least 0")
    align, degree = arguments.logps_like(align_loss=align_loss, degree_loss=degree_loss)
    return align + weighted(gamma, degree)
