"""Top-k hinge losses: the label has to be among the k best."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.margin import _hinge, _margin, _rivals
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "smooth_topk_loss",
    "topk_hinge_loss",
]


def topk_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 5,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Top-k hinge: the k best rivals together must stay a margin below the label.

    Use it when the label need only be among the best k (top-5 error).

    .. math:: \ell = \max\Bigl(0,\; m + \frac1k \sum_{j=1}^k (z_{[j]} - z_y)\Bigr)

    with :math:`z_{[j]}` the j-th largest of the rivals' scores; all rivals where there
    are fewer than k. ``k=1`` is ``multiclass_hinge_loss``. Lapin's own version counts
    the label among the candidates, with a margin of 0; it differs where the label is
    less than ``m`` above the k-th rival.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      k: a Python integer, at least 1: it is the size of an array.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 without
      a rival.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``k``
        below 1 or ``margin`` negative.

    Numerics: right to 1e-6 of the largest difference of scores or the margin.

    Source: Lapin, Hein and Schiele 2015, arXiv:1511.06683.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import topk_hinge_loss
    >>> topk_hinge_loss(jnp.float32([1, 1.5, 0.5, -4]), 0, k=2)
    Array(1., dtype=float32)
    """
    check_range("k", k, lambda k: k >= 1, "at least 1")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    k = min(k, z.shape[-1])
    best, _ = jax.lax.top_k(jnp.where(rival, z, -jnp.inf), k)
    taken = best > -jnp.inf
    count = jnp.sum(taken, -1)
    base = jnp.where(count > 0, score, 0)[..., None]
    apart = jnp.where(taken, best, 0) - jnp.where(taken, base, 0)
    mean = jnp.sum(apart, -1) / jnp.maximum(count, 1)
    loss = jnp.where(count > 0, _hinge(_margin(margin, z) + mean), 0)
    return jnp.where(known, loss, jnp.nan)


def smooth_topk_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 5,
    margin: ArrayLike = 1.0,
    tau: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Smooth top-k SVM: a log-sum-exp over all sets of k classes.

    Use it when the label need only be among the best k and a deep network needs
    gradients.

    .. math:: \ell = \tau \log\Bigl(1 + e^{m/\tau}
        \frac{\sigma_k(x)}{x_y\,\sigma_{k-1}(x)}\Bigr), \quad x_c = e^{z_c / (k \tau)}

    with :math:`\sigma_k` the elementary symmetric polynomial over the rivals. For
    :math:`\tau \to 0` it is :math:`\max(0, m + (z_{[k]} - z_y)/k)`. It is
    not a smoothed ``topk_hinge_loss``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      k: a Python integer, at least 1. The cost is k numbers per class, one class after
        another.
      margin: :math:`m`, at least 0; may be traced.
      tau: the temperature, positive; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 with
      fewer than k rivals, when nothing can push the label out.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``k``
        below 1, ``margin`` negative or ``tau`` not positive.

    Numerics: relative error below 1e-4 for margins up to 80 ``tau``: sums of logarithms
      round.

    Source: Berrada, Zisserman and Kumar 2018, arXiv:1802.07595.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import smooth_topk_loss
    >>> smooth_topk_loss(jnp.float32([1, 1, 0]), 0, k=1, margin=0.0)
    Array(0.8619948, dtype=float32)
    """
    check_range("k", k, lambda k: k >= 1, "at least 1")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    margin = _margin(margin, z)
    tau = hyper("tau", tau, z.dtype, lambda t: t > 0, "positive")
    count = jnp.sum(rival, -1)
    enough = count >= k
    kept = min(k, z.shape[-1])
    kth = jax.lax.top_k(jax.lax.stop_gradient(jnp.where(rival, z, -jnp.inf)), kept)[0]
    kth = jnp.where(enough, kth[..., -1], 0)
    # Measured from the k-th rival, a score a thousand away changes no digit.
    x = (jnp.where(rival, z, 0) - jnp.where(rival, kth[..., None], 0)) / (k * tau)
    x = jnp.where(x > 1e3, 1e3, jnp.where(x < -1e3, -1e3, x))

    def add(log_sigma, item):
        x, rival = item
        grown = jnp.logaddexp(log_sigma[1:], log_sigma[:-1] + x[None])
        grown = jnp.concatenate([log_sigma[:1], grown])
        return jnp.where(rival[None], grown, log_sigma), None

    zero = 0 * x[None, ..., 0]  # laid out as the scores are
    empty = jnp.concatenate([zero] + k * [zero - 1e4 * k])
    items = jnp.moveaxis(x, -1, 0), jnp.moveaxis(rival, -1, 0)
    log_sigma, _ = jax.lax.scan(add, empty, items)
    gap = (kth - jnp.where(enough, score, 0)) / k
    lead = tau * (log_sigma[k] - log_sigma[k - 1]) + gap + margin
    # Far above 0 a softplus is the identity, which has no need to divide.
    far = lead > 1e4 * tau
    near = tau * jax.nn.softplus(jnp.where(far, 0, lead) / tau)
    loss = jnp.where(enough, jnp.where(far, lead, near), 0)
    return jnp.where(known, loss, jnp.nan)
