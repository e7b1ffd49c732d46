"""Cross-entropy of a sigmoid: each logit is a yes or no of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab.numerics.arguments import as_binary, elementwise, hyper

__all__ = ["sigmoid_cross_entropy"]


def sigmoid_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    positive_weight: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Binary cross-entropy with logits, one number per label.

    Use it when every label is present or absent by itself.

    .. math:: \ell = w\, t \log(1 + e^{-z}) + (1-t) \log(1 + e^z)

    For binary and multi-label classification. Its mean over the classes is
    ``multilabel_soft_margin_loss``; ``sigmoid_focal_loss`` and ``asymmetric_loss``
    weight easy labels down.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``. One logit without axes
        will do.
      labels: :math:`t`, 0 or 1, or probabilities.
      positive_weight: :math:`w`, at least 0, the price of a missed positive: one
        number, one per class, or an array that broadcasts to the logits with as many
        axes; may be traced.
      axis: the class axis, along which ``positive_weight`` may differ.
      where: bool, the labels that take part; the others cost 0.

    Returns:
      The loss in nats, float32 (float64 for float64 logits); NaN for an integer label
      below 0, which means no label.

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``), or
        ``positive_weight`` negative or of a shape that does not fit.

    Numerics: relative error below 1e-5 for margins up to 80, value and (hard labels)
      gradient: nothing small is added to something large.

    Source: Good 1952, Rational Decisions, JRSS B 14; the weight as ``pos_weight`` of
      ``torch.nn.BCEWithLogitsLoss``.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sigmoid_cross_entropy
    >>> sigmoid_cross_entropy(jnp.float32([40, 0]), jnp.array([1, 0]))
    Array([4.248354e-18, 6.931472e-01], dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    w = hyper(
        "positive_weight", positive_weight, z.dtype, lambda w: w >= 0, "at least 0"
    )
    try:
        if w.ndim not in (0, 1, z.ndim):
            raise ValueError
        w = jnp.moveaxis(w, axis, -1) if w.ndim == z.ndim else w
        w = jnp.broadcast_to(w, z.shape)
    except ValueError:
        raise ValueError(
            f"positive_weight has shape {np.shape(positive_weight)}, expected (), "
            f"{z.shape[-1:]} or one that broadcasts to {np.shape(logits)}"
        ) from None
    losses = (w * t) * jax.nn.softplus(-z) + (1 - t) * jax.nn.softplus(z)
    return elementwise(losses, shown, bad, axis=axis, like=logits)
