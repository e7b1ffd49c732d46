"""Losses of a sigmoid: each logit is a yes or no of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._odds import bernoulli_kl
from logitlab.numerics.arguments import as_binary, elementwise, hyper

__all__ = ["bandit_kl_loss", "sigmoid_cross_entropy", "smoothed_zero_one_loss"]


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


def bandit_kl_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of a predicted from an observed loss in [0, 1], one per logit.

    Use it when a network predicts the losses of a bandit's arms, for FastCB.

    .. math:: y \log\frac{y}{\sigma(z)} + (1 - y) \log\frac{1 - y}{1 - \sigma(z)}

    It is ``sigmoid_cross_entropy`` less the entropy of the label, and has its gradient;
    0 where the prediction is right. ``optim.inverse_gap_weighting`` makes of the
    predictions the chances of the arms.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C]

    Args:
      logits: log-odds of the predicted losses; ``-inf`` is the same as ``where=False``.
        One logit without axes will do.
      labels: y, the observed losses, in [0, 1].
      axis: the axis of the arms.
      where: bool, the arms that take part; the others cost 0. In a bandit, the one that
        was pulled.

    Returns:
      Nats, float32 (float64 for float64 logits); NaN for a label below 0, which means
      that nothing was observed.

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``).

    Numerics: relative error below 1e-5 for margins up to 80, value and gradient, near
      the label by the digits of the log-odds' difference.

    Source: Contextual Bandits with Online Neural Regression, Deb et al. 2023,
      arXiv:2312.07145.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bandit_kl_loss
    >>> print(bandit_kl_loss(jnp.float32([0, 40]), jnp.float32([0.5, 1])))
    [0.000000e+00 4.248354e-18]
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    between = (t > 0) & (t < 1)
    inner = jnp.where(between, t, 0.5)
    divergence = bernoulli_kl(jnp.log(inner) - jnp.log1p(-inner), z)
    certain = jnp.where(t > 0.5, jax.nn.softplus(-z), jax.nn.softplus(z))
    losses = jnp.where(between, divergence, certain)
    return elementwise(losses, shown, bad, axis=axis, like=logits)


def smoothed_zero_one_loss(margins: ArrayLike, *, sigma: ArrayLike) -> jax.Array:
    r"""Share of wrong signs with a smooth step, elementwise.

    Use it when a few confident labels are wrong and a convex loss would follow them.

    .. math:: \sigma(-m / s), \quad m = y\,(w \cdot x), \quad y = \pm 1

    The narrower the step, the nearer to the error rate, and the fewer examples have a
    slope: start with a wide one. ``estimators.learn_halfspace`` does.

    Shapes: margins [...] -> [...]

    Args:
      margins: m, the score times the label as +1 or -1; negative for a wrong sign.
      sigma: s, the width of the step, above 0.

    Returns:
      From 0 to 1, float32 (float64 for float64 margins).

    Raises:
      TypeError: ``margins`` is not floating point.
      ValueError: ``sigma`` is not above 0.

    Numerics: relative error below 1e-5, value and gradient, for ``margins / sigma`` up
      to 80.

    Source: An Efficient Tester-Learner for Halfspaces, Gollakota et al. 2023,
      arXiv:2302.14853; the logistic step is inferred from the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import smoothed_zero_one_loss
    >>> print(smoothed_zero_one_loss(jnp.float32([0, 4, -40]), sigma=0.1))
    [5.000000e-01 4.248354e-18 1.000000e+00]
    """
    m = numerics.promote_to_float32(margins, "margins")
    sigma = hyper("sigma", sigma, m.dtype, lambda s: s > 0, "above 0")
    return numerics.sigmoid(-m / sigma)
