"""Lovasz losses: the Jaccard index of a set, extended to errors between 0 and 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.segmentation import (
    _log_rest,
    _terms,
)

__all__ = [
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
]


def lovasz_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    absent: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Lovasz-softmax: a surrogate of the mean Jaccard index of a set; one number.

    Use it when the mean IoU (Jaccard index) is what you report.

    .. math:: \frac{1}{|\mathcal C|} \sum_{c \in \mathcal C}
        \sum_i m_{(i)} \bigl(\Delta_c(\{(1), \dots, (i)\})
        - \Delta_c(\{(1), \dots, (i-1)\})\bigr)

    with :math:`m_i = |t_i - p_i|` the errors in decreasing order, and
    :math:`\Delta_c(M)` one minus the Jaccard index of a prediction that is wrong in M.
    For one number per image use ``jax.vmap``.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: classes, ints in ``[0, C)`` (softmax); or 0 and 1, of the shape of
        ``logits`` (sigmoid: overlapping classes).
      absent: whether classes that no example has take part in the mean; each costs its
        largest probability. False leaves them out.
      axis: the class axis of ``logits`` and ``where`` (and of such ``labels``).
      where: bool, the classes that take part. A hidden label is an error of 1.
      mask: bool, the examples that take part, of the shape of ``labels``; the label of
        another may be any integer.

    Returns:
      A scalar without unit, in [0, 1], float32 (float64 for float64 logits); 0 where no
      class takes part.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, or a label of C or more; under ``jit``, where values are
        unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80:
      errors are sorted by their log-odds, which do not round to ties near 1, and the
      steps of the Jaccard index have a form without a difference. Equal errors slope
      as their order in the set has it.

    Source: Berman, Triki and Blaschko 2018, arXiv:1705.08790.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import lovasz_softmax_loss
    >>> print(lovasz_softmax_loss(jnp.float32([[40, 0], [40, 0]]), jnp.array([0, 1])))
    0.75
    """
    each = np.ndim(logits) != np.ndim(labels)
    z, log_p, keep, some, t = _terms(logits, labels, axis, where, mask)
    log_rest = _log_rest(z, log_p, each)
    positive = t > 0.5
    odds = jnp.where(positive, log_rest - log_p, log_p - log_rest)
    errors = jnp.where(positive, -numerics.expm1(log_p), jnp.exp(log_p))
    errors, odds, positive, some = (
        a.reshape(-1, z.shape[-1]) for a in (errors, odds, positive & keep, keep & some)
    )
    some = some | positive  # a hidden label is there, and missed
    steps = _jaccard_steps(odds, positive, some)
    losses = jnp.sum(jnp.where(some, errors, 0) * steps, 0)
    counted = some.any(0) if absent else positive.any(0)
    count = jnp.maximum(counted.sum(), 1).astype(z.dtype)
    loss = jnp.sum(jnp.where(counted, losses, 0)) / count
    return jnp.where(jnp.isnan(t).any(), jnp.nan, loss)


def lovasz_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Lovasz hinge: a convex surrogate of the Jaccard index of one binary problem.

    Use it when the IoU of one binary mask is what you report.

    .. math:: \sum_i \max(0, m_{(i)}) \bigl(\Delta(\{(1), \dots, (i)\})
        - \Delta(\{(1), \dots, (i-1)\})\bigr), \quad m_i = 1 - (2 t_i - 1) z_i

    with the :math:`m_i` in decreasing order, and :math:`\Delta(M)` one minus the
    Jaccard index of a prediction that is wrong in M. All logits are one set, and the
    result is one number; for one number per image use ``jax.vmap``.

    Shapes: logits [..., C], labels [..., C], where [..., C], mask [..., C] -> []

    Args:
      logits: scores of the foreground; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1.
      axis: an axis of ``logits``; none is special, so it only checks the argument.
      where: bool, the logits that take part.
      mask: the same, without broadcasting; the label of another may be any integer.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). Without
      positives it is the largest hinge, in an empty set 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: wrong shapes, or a label outside [0, 1]; under ``jit``, where values
        are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient; no gradient at the kink.

    Source: Berman, Triki and Blaschko 2018, arXiv:1705.08790; Yu and Blaschko 2015,
      arXiv:1512.07797.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import lovasz_hinge_loss
    >>> print(lovasz_hinge_loss(jnp.float32([2, 0, -1]), jnp.array([1, 1, 0])))
    0.5
    """
    if np.ndim(logits) != np.ndim(labels):
        shape = np.shape(labels)
        raise ValueError(f"labels has shape {shape}, expected {np.shape(logits)}")
    z, _, keep, some, t = _terms(logits, labels, axis, where, mask)
    positive, some = (t > 0.5).ravel(), (keep & some).ravel()
    lead = jnp.where(positive, z.ravel(), -z.ravel())
    steps = _jaccard_steps(-lead[:, None], (positive & some)[:, None], some[:, None])
    live = some & (lead < 1)
    loss = jnp.sum(jnp.where(live, 1 - jnp.where(live, lead, 0), 0) * steps[:, 0])
    return jnp.where(jnp.isnan(t).any(), jnp.nan, loss)


def _jaccard_steps(errors, positive, some):
    """How much each example adds to one minus the Jaccard index, errors from above.

    Shapes: errors [N, C], positive [N, C], some [N, C] -> [N, C]
    """
    place = jax.lax.broadcasted_iota(jnp.int32, errors.shape, 0)
    kind = jnp.where(some, jnp.where(positive, 1, 0), 2)
    rank = -jax.lax.stop_gradient(errors)
    hidden = jnp.where(some, 0, 1)
    _, _, kind, place = jax.lax.sort(
        (hidden, rank, kind, place), dimension=0, num_keys=2
    )
    count = jnp.sum(kind == 1, 0, keepdims=True)
    both = count - jnp.cumsum(kind == 1, 0)
    extra = jnp.cumsum(kind == 0, 0)
    union = (count + extra).astype(rank.dtype)
    # A missed positive leaves the union as it is; a false one leaves the overlap.
    missed = 1 / jnp.maximum(union, 1)
    false = both / (jnp.maximum(union, 1) * jnp.maximum(union - 1, 1))
    false = jnp.where(count == 0, extra == 1, false)  # nothing to find: the first
    steps = jnp.where(kind == 1, missed, jnp.where(kind == 0, false, 0))
    return jax.lax.sort((place, steps), dimension=0, num_keys=1)[1]
