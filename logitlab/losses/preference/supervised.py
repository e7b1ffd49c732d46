"""The supervised loss that preference losses are added to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["sft_loss"]


def sft_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Supervised fine-tuning: the mean cross-entropy of all tokens that count.

    Use it when you fine-tune a language model on instructions (one mean over tokens).

    .. math:: -\frac{\sum_{b,t} m_{bt} \log p_{bt, y_{bt}}}{\sum_{b,t} m_{bt}}

    One number for a batch, in which long answers weigh more than short ones. Of parts
    of a batch, add the sums of losses and divide once by the number of all tokens: the
    mean of their means is another number.

    Shapes: logits [..., V], labels [...], mask [...], where [..., V] -> []

    Args:
      logits: scores, already beside the tokens that they predict (see
        :func:`shift_for_next_token`).
      labels: the tokens, ints in ``[0, V)``; any integer where ``mask`` is False, so
        that ``labels != -100`` may be the mask.
      mask: bool, the tokens that count; by default all.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      Nats, float32 (float64 for float64 logits); 0 where no token counts, NaN where a
      token that counts is negative.

    Raises:
      TypeError: ``labels`` is not integer, or ``mask`` or ``where`` is not bool.
      ValueError: the shapes disagree, or a token that counts is V or more (NaN under
        ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Ouyang et al. 2022, arXiv:2203.02155.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sft_loss
    >>> labels = jnp.array([0, -100])
    >>> print(sft_loss(jnp.float32([[40, 0], [0, 0]]), labels, mask=labels != -100))
    4.248354e-18
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    y = numerics.wide_labels(labels)
    kept = numerics.check_mask(mask, z.shape[:-1])
    if mask is not None and y.shape == kept.shape:
        z, y = jnp.where(kept[..., None], z, 0), jnp.where(kept, y, 0)
    return numerics.masked_mean(numerics.label_nll(z, y), kept)
