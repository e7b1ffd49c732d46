"""Long-tailed classes: weights, priors and margins from how often a class occurs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import (
    check_range,
    counts_per_class,
    hyper,
    one_hot_mask,
)

__all__ = ["balanced_softmax_loss", "ldam_loss", "logit_adjusted_loss"]


def balanced_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    counts: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of logits raised by the log of the class counts.

    Use it when you have class counts and want no hyper-parameter.

    .. math:: \ell = -\log \frac{n_y e^{z_y}}{\sum_c n_c e^{z_c}}

    For training only; predict with the plain logits.

    Shapes: logits [..., C], labels [...], counts [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      counts: examples of each class, at least 0; 0 hides the class.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``counts`` negative or not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Ren et al. 2020, arXiv:2007.10740.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import balanced_softmax_loss
    >>> balanced_softmax_loss(jnp.float32([2, 1, 0]), 0, jnp.array([90, 9, 1]))
    Array(0.03757674, dtype=float32)
    """
    return _with_prior(logits, labels, counts, 1, axis, where, "counts")


def logit_adjusted_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    prior: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of logits raised by ``tau`` times the log of the class prior.

    Use it when classes have a long tail and the mean over classes counts (balanced
    error).

    .. math:: \ell = -\log \mathrm{softmax}(z + \tau \log \pi)_y

    ``tau=1`` is ``balanced_softmax_loss``. Without this loss, subtract
    :math:`\tau \log \pi` from the logits to predict.

    Shapes: logits [..., C], labels [...], prior [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      prior: class probabilities or counts, at least 0: their scale does not matter. 0
        hides the class, unless ``tau`` is 0.
      tau: at least 0; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``tau``
        negative, or ``prior`` negative or not one per class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Menon et al. 2021, arXiv:2007.07314.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import logit_adjusted_loss
    >>> logit_adjusted_loss(jnp.float32([2, 1, 0]), 1, jnp.array([0.9, 0.09, 0.01]))
    Array(3.3401618, dtype=float32)
    """
    check_range("tau", tau, lambda t: t >= 0, "at least 0")
    return _with_prior(logits, labels, prior, tau, axis, where, "prior")


def ldam_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    counts: ArrayLike,
    *,
    scale: ArrayLike = 30.0,
    margin: ArrayLike = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-distribution-aware margin loss: rarer classes keep a wider margin.

    Use it when rare classes need a wider margin than frequent ones.

    .. math:: \ell = -\log \mathrm{softmax}(s (z - \Delta_y e_y))_y, \quad
        \Delta_c = m \Bigl(\frac{\min_j n_j}{n_c}\Bigr)^{1/4}

    Shapes: logits [..., C], labels [...], counts [C], where [..., C] -> [...]

    Args:
      logits: cosine scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      counts: examples of each class in any unit; the minimum is over the classes that
        take part and have examples. A class with 0 gets the whole margin.
      scale: :math:`s`, positive; may be traced.
      margin: :math:`m`, that of the rarest class, at least 0; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``),
        ``counts`` negative or not one per class, ``scale`` not positive or ``margin``
        negative.

    Numerics: relative error below 1e-5, value and gradient, for scaled margins up to 80
      of scores in [-1, 1].

    Source: Cao et al. 2019, arXiv:1906.07413.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ldam_loss
    >>> ldam_loss(jnp.float32([0.5, 0.5]), 1, jnp.array([16, 1]), scale=1.0)
    Array(0.974077, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    scale = hyper("scale", scale, z.dtype, lambda s: s > 0, "positive")
    margin = hyper("margin", margin, z.dtype, lambda m: m >= 0, "at least 0")
    n = counts_per_class(counts, z.shape[-1]).astype(z.dtype)
    # n ** -0.25 over its largest value among the row's classes; one without examples
    # gets the whole margin.
    rarity = jnp.where(n > 0, jnp.where(n > 0, n, 1) ** -0.25, 0)
    rarity = jnp.broadcast_to(rarity, z.shape)
    rarest = jnp.where(z > -jnp.inf, rarity, 0).max(-1, keepdims=True)
    rare = (rarity == 0) | ~(rarity < rarest)
    gap = margin * jnp.where(rare, 1, rarity / jnp.where(rare, 1, rarest))
    is_label, _ = one_hot_mask(z, labels)
    # Measured from the top, so that a common offset does not round the margins.
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    z = z - jnp.where(top > -jnp.inf, top, 0)
    z = z - jnp.where(is_label, gap, 0)
    return numerics.label_nll(scale * z, labels)


def _with_prior(logits, labels, prior, tau, axis, where, name):
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    log_prior = jnp.log(counts_per_class(prior, z.shape[-1], name)).astype(z.dtype)
    tau = hyper("tau", tau, z.dtype)
    lift = tau * jnp.where(log_prior > -jnp.inf, log_prior, 0)
    lift = jnp.where((log_prior > -jnp.inf) | (tau == 0), lift, -jnp.inf)
    return numerics.label_nll(z + jnp.broadcast_to(lift, z.shape), labels)
