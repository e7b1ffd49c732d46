"""Likelihoods of a whole ranking of the classes."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import check_temperature, prepare_pair, scores
from logitlab.numerics.arguments import check_same_shape, one_hot_mask
from logitlab.targets.teachers import _ranking

__all__ = ["list_mle_distillation_loss", "pld_loss"]


Weights = Literal["teacher", "uniform", "position", "first"]


def pld_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    weights: Weights | ArrayLike = "teacher",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Plackett-Luce distillation (PLD): weighted likelihood of a ranking.

    Use it when the order of the teacher's classes should be learned at once.

    .. math:: \ell = \sum_k \alpha_k \Bigl[ \log \sum_{l \ge k} e^{s_{\pi_l}}
        - s_{\pi_k} \Bigr], \quad \alpha_k = \mathrm{softmax}(t / T)_{\pi_k}

    with :math:`\pi` the label first and then the other classes by decreasing teacher
    logit, the smaller class first among equals. Only the teacher's weights have the
    temperature; there is no factor :math:`T^2` and no cross-entropy to add. Where a
    confident teacher disagrees, the label's weight is small.

    Shapes: student_logits [..., C], teacher_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      labels: ints in ``[0, C)``. A hidden one is not in the list.
      temperature: T, positive, one for all or one per example; 1 in the paper's
        ImageNet runs, 4 in those on CIFAR-100.
      weights: ``"teacher"``, the :math:`\alpha` above; ``"uniform"``, :math:`1/C`;
        ``"position"``, proportional to :math:`2^{C-k} - 1`; ``"first"``, the label
        alone, which is cross-entropy; or an array [..., C] in the order of the list,
        which gets no gradient. The named ones add up to 1.
      axis: the class axis.
      where: bool, the classes that are in the list.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), the temperature is not positive, or ``weights`` is unknown or has
        another shape.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: PLD, arXiv:2506.12542.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pld_loss
    >>> print(f"{pld_loss(jnp.float32([1, 0, -1]), jnp.float32([2, 1, 0]), 1):.5f}")
    0.42892
    """  # noqa: E501 - a test parses the line of shapes
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    label, known = one_hot_mask(s, labels)
    order = _ranking(s, t, label)
    temperature = check_temperature(temperature, s)
    alpha = _weights(weights, t, temperature, order, axis)
    return jnp.where(known, _plackett_luce(s, order, alpha), jnp.nan)


def list_mle_distillation_loss(
    logits: ArrayLike,
    ranking: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    axis: int = -1,
) -> jax.Array:
    r"""ListMLE: negative Plackett-Luce log-likelihood of a ranking of classes.

    Use it when you have a ranking of classes, no logits.

    .. math:: \ell = \sum_k w_k \Bigl[ \log \sum_{l \ge k} e^{z_{\pi_l}}
        - z_{\pi_k} \Bigr]

    Shapes: logits [..., C], ranking [..., C] -> [...]

    Args:
      logits: scores. A class at ``-inf`` has to come last.
      ranking: int, a permutation of the classes, the best first.
      weights: [..., C] in the order of the ranking, 1 by default; no gradient.
      axis: the class axis of all three.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point or ``ranking`` not integer.
      ValueError: the shapes differ, or ``ranking`` has an entry that is no class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xia et al. 2008, Listwise Approach to Learning to Rank; position-aware,
      Lan et al. 2014.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import list_mle_distillation_loss
    >>> loss = list_mle_distillation_loss(jnp.float32([0, 0, 0]), jnp.array([2, 0, 1]))
    >>> print(f"{loss:.4f}")
    1.7918
    """
    z = numerics.prepare_logits(logits, axis=axis)
    order = jnp.asarray(ranking)
    check_same_shape("ranking", order, "logits", jnp.shape(logits))
    if not jnp.issubdtype(order.dtype, jnp.integer):
        raise TypeError(f"ranking has dtype {order.dtype}, expected integers")
    bad = (order < 0) | (order >= z.shape[-1])
    if numerics.is_concrete(bad) and bad.any():
        raise ValueError(f"ranking outside [0, {z.shape[-1]}): {order[bad][:5]}")
    w = jnp.ones_like(z) if weights is None else _given(weights, z, axis)
    return _plackett_luce(z, jnp.moveaxis(order, axis, -1), w)


def _weights(weights, t, temperature, order, axis):
    if not isinstance(weights, str):
        return _given(weights, t, axis)
    if weights == "teacher":
        p = numerics.softmax(scores(t, temperature))
        return jnp.take_along_axis(p, order, -1)
    count = jnp.sum(t > -jnp.inf, -1, keepdims=True).astype(t.dtype)
    k = jax.lax.broadcasted_iota(t.dtype, t.shape, t.ndim - 1)
    if weights == "first":
        return (k == 0).astype(t.dtype)
    if weights == "uniform":
        return jnp.where(k < count, 1 / jnp.maximum(count, 1), 0)
    if weights == "position":
        share = jnp.where(k < count, jnp.exp2(-1 - k) - jnp.exp2(-count), 0)
        total = jnp.sum(share, -1, keepdims=True)
        return share / jnp.where(total > 0, total, 1)
    raise ValueError(
        f"weights is {weights!r}, expected 'teacher', 'uniform', 'position', 'first' "
        "or an array"
    )


def _given(weights, z, axis):
    w = jax.lax.stop_gradient(numerics.promote_to_float32(weights, "weights")).astype(
        z.dtype
    )
    w = jnp.moveaxis(w, axis, -1)
    if w.shape != z.shape:
        raise ValueError(f"weights has shape {w.shape}, expected {z.shape}")
    return w


def _plackett_luce(z, order, weights):
    z = jnp.take_along_axis(z, order, -1)
    shown = z > -jnp.inf
    top, log_total = _suffix_sums(z, shown)
    followed = shown[..., 1:]
    gap = top[..., 1:] / 2 - jnp.where(shown, z, 0)[..., :-1] / 2
    ahead = jnp.where(followed, gap + log_total[..., 1:] / 2, 0)
    # log(1 + exp(2 ahead)); a difference of the largest numbers comes in halves.
    far = ahead > 50
    near = weights[..., :-1] * jax.nn.softplus(2 * jnp.where(far, 0, ahead))
    cost = jnp.where(far, 2 * (weights[..., :-1] * ahead), near)
    return jnp.sum(jnp.where(followed, cost, 0), -1)


def _suffix_sums(z, shown):
    """Largest logit from each place on, and the log of the sum measured from it."""
    lowest = jnp.finfo(z.dtype).min
    top = jnp.where(shown, jax.lax.stop_gradient(z), lowest)
    nothing = jnp.asarray(lowest / 4, z.dtype)  # a log, with room for another one
    log_total = jnp.where(
        shown, jnp.where(shown, z, 0) - jnp.where(shown, top, 0), nothing
    )

    def join(a, b):
        top = jnp.maximum(a[0], b[0])
        parts = (jnp.maximum(x + (m - top), nothing) for m, x in (a, b))
        return top, jnp.logaddexp(*parts)

    return jax.lax.associative_scan(
        join, (top, log_total), reverse=True, axis=z.ndim - 1
    )
