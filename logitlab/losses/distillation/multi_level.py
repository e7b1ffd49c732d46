"""Distillation at the level of examples, of classes and of the batch (MLKD)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import probabilities
from logitlab.losses.distillation.divergences import kd_loss
from logitlab.numerics.arguments import check_same_shape, weighted

__all__ = ["batch_correlation_loss", "class_correlation_loss", "mlkd_loss"]


def class_correlation_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared difference of two models' class correlations, one number for a batch.

    Use it when you want the part of ``mlkd_loss`` between classes.

    .. math:: \ell = \frac1C \| P_t^\top P_t - P_s^\top P_s \|_F^2

    with a row of probabilities for each example, at temperature T; no factor
    :math:`T^2`.

    Shapes: student_logits [..., C], teacher_logits [..., C], mask [...] -> []

    Args:
      student_logits: scores; a class at ``-inf`` has probability 0 in both models.
      teacher_logits: of the same classes; they get no gradient.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      mask: bool, the examples that take part.

    Returns:
      float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Numerics: relative error below 1e-5 of the larger norm.

    Source: Multi-Level Logit Distillation, Jin et al. 2023 (CVPR).

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import class_correlation_loss
    >>> z = jnp.float32([[9, -9]])
    >>> class_correlation_loss(-z, z).round(4)
    Array(1., dtype=float32)
    """
    q, p = _rows(student_logits, teacher_logits, temperature, axis, mask)
    return jnp.sum(_class_gap(q, p) ** 2) / q.shape[-1]


def batch_correlation_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared difference of two models' example correlations, one number for a batch.

    Use it when you want the part of ``mlkd_loss`` between examples.

    .. math:: \ell = \frac1N \| P_t P_t^\top - P_s P_s^\top \|_F^2

    with a row of probabilities for each example, at temperature T; no factor
    :math:`T^2`. Needs an array of N times N.

    Shapes: student_logits [..., C], teacher_logits [..., C], mask [...] -> []

    Args:
      student_logits: scores; a class at ``-inf`` has probability 0 in both models.
      teacher_logits: of the same classes; they get no gradient.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      mask: bool, the examples that take part; N counts them.

    Returns:
      float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Numerics: relative error below 1e-5 of the larger norm.

    Source: Multi-Level Logit Distillation, Jin et al. 2023 (CVPR).

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import batch_correlation_loss
    >>> batch_correlation_loss(jnp.zeros((1, 2)), jnp.float32([[99, 0]]))
    Array(0.25, dtype=float32)
    """
    q, p = _rows(student_logits, teacher_logits, temperature, axis, mask)
    count = len(q) if mask is None else jnp.maximum(jnp.sum(mask), 1)
    return jnp.sum(_batch_gap(q, p) ** 2) / jnp.maximum(count, 1)


def mlkd_loss(
    student_weak: ArrayLike,
    student_strong: ArrayLike,
    teacher_weak: ArrayLike,
    teacher_strong: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 4.0,
    kd_weight: ArrayLike = 0.9,
    ce_weight: ArrayLike = 0.1,
    standardize: bool = False,
    mode: Literal["official", "intended"] = "official",
    mask: ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""Multi-level logit distillation of two views of a batch, as four numbers.

    Use it when you have weak and strong augmentations and want all levels together.

    .. math:: \ell = \ell_{ce} + \ell_{kd} + \ell_{cc} + \ell_{bc}

    over the temperatures T, 3, 5, 2, 6. An example is unsure if the teacher's largest
    probability on the weak view, at temperature 1, is at most the batch's median; a
    class is rare if its column sum is at most their median.

    ``"official"`` is the released code with its quirks: the divergences and
    correlations of the weak view are multiplied by the *share* of unsure examples
    (rare classes); of the strong view only three divergences are used, the two at 2 and
    6 being those of the weak view once more. ``"intended"``, our repair, counts the
    unsure examples and rare classes alone in the weak view, and all of the strong one.

    Shapes: student_weak [N, C], student_strong [N, C], teacher_weak [N, C], teacher_strong [N, C], labels [N], mask [N] -> [], [], [], []

    Args:
      student_weak: logits on the weakly augmented view.
      student_strong: on the strongly augmented one.
      teacher_weak: the teacher's; no gradient.
      teacher_strong: the teacher's; no gradient.
      labels: ints in ``[0, C)``.
      temperature: the first of the five temperatures.
      kd_weight: weight of all but the cross-entropy; 9 for standardised logits.
      ce_weight: weight of the two cross-entropies.
      standardize: ``standardize_logits``, of the divergences alone.
      mode: see above.
      mask: bool, the examples that take part.

    Returns:
      A dict of ``loss_ce``, ``loss_kd``, ``loss_cc`` and ``loss_bc``, whose sum is the
      objective, float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point or ``mask`` is not bool.
      ValueError: wrong shapes, a label of C or more (NaN under ``jit``), a temperature
        that is not positive, or an unknown ``mode``.

    Source: Multi-Level Logit Distillation, Jin et al. 2023 (CVPR);
      sunshangquan/logit-standardization-KD.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import mlkd_loss
    >>> z = jnp.float32([[2, 0], [0, 1]])
    >>> parts = mlkd_loss(z, z, z, z, jnp.array([0, 1]))
    >>> print(*(name for name in parts if parts[name] > 1e-6))
    loss_ce
    """  # noqa: E501 - a test parses the line of shapes
    if mode not in ("official", "intended"):
        raise ValueError(f"mode is {mode!r}, expected 'official' or 'intended'")
    if jnp.ndim(student_weak) != 2:
        raise ValueError(
            f"student_weak has shape {jnp.shape(student_weak)}, expected [N, C]"
        )
    keep = numerics.check_mask(mask, jnp.shape(student_weak)[:1])
    views = {
        "student_weak": student_weak,
        "student_strong": student_strong,
        "teacher_weak": teacher_weak,
        "teacher_strong": teacher_strong,
    }
    for name, z in views.items():
        check_same_shape(name, z, "student_weak", jnp.shape(student_weak))
    student_weak, student_strong, teacher_weak, teacher_strong = (
        jnp.where(keep[:, None], numerics.promote_to_float32(z, name), 0)
        for name, z in views.items()
    )
    weak, strong = (student_weak, teacher_weak), (student_strong, teacher_strong)
    heats = (temperature, 3.0, 5.0, 2.0, 6.0)
    unsure, rare = _masks(teacher_weak, keep)

    def mean(losses):
        return numerics.masked_mean(losses, None if mask is None else keep)

    def divergence(view, heat):
        return kd_loss(*view, temperature=heat, standardize=standardize)

    def correlations(gap, view, weight):
        """Squared entries, each row by its weight."""
        rows = (_rows(*view, heat, -1, mask) for heat in heats)
        return sum(jnp.sum(weight * jnp.sum(gap(q, p) ** 2, -1)) for q, p in rows)

    count = jnp.maximum(jnp.sum(keep), 1).astype(unsure.dtype)
    classes = rare.size
    if mode == "official":
        share, rare_share = jnp.sum(unsure) / count, jnp.mean(rare)
        by_view = share * sum(mean(divergence(weak, heat)) for heat in heats)
        again = [(strong, heat) for heat in heats[:3]] + [(weak, 2.0), (weak, 6.0)]
        other = sum(mean(divergence(view, heat)) for view, heat in again)
        by_class = correlations(_class_gap, weak, rare_share)
        by_batch = correlations(_batch_gap, weak, share)
    else:
        by_view = sum(mean(unsure * divergence(weak, heat)) for heat in heats)
        other = sum(mean(divergence(strong, heat)) for heat in heats)
        by_class = correlations(_class_gap, weak, rare)
        by_class += correlations(_class_gap, strong, 1.0)
        by_batch = correlations(_batch_gap, weak, unsure)
        by_batch += correlations(_batch_gap, strong, 1.0)
    ce = sum(
        mean(numerics.label_nll(z, labels)) for z in (student_weak, student_strong)
    )
    return {
        "loss_ce": weighted(ce_weight, ce, "ce_weight"),
        "loss_kd": weighted(kd_weight, by_view + other, "kd_weight"),
        "loss_cc": weighted(kd_weight, by_class / classes),
        "loss_bc": weighted(kd_weight, by_batch / count),
    }


def _masks(teacher, keep):
    """1 for unsure examples, 1 for rare classes; no gradient."""
    p = numerics.softmax(
        jax.lax.stop_gradient(numerics.promote_to_float32(teacher, "teacher_weak"))
    )
    if not p.shape[0]:
        return keep.astype(p.dtype), jnp.ones(p.shape[-1:], p.dtype)
    top = jnp.where(keep, jnp.max(p, -1), jnp.nan)
    mass = jnp.sum(jnp.where(keep[:, None], p, 0), 0)
    unsure = keep & (top <= jnp.nanmedian(top))
    return unsure.astype(p.dtype), (mass <= jnp.median(mass)).astype(p.dtype)


def _class_gap(q, p):
    """Difference of the class correlations of two arrays of probabilities [N, C]."""
    return p.T @ p - q.T @ q


def _batch_gap(q, p):
    """Difference of their example correlations."""
    return p @ p.T - q @ q.T


def _rows(student_logits, teacher_logits, temperature, axis, mask):
    """Probabilities [N, C] of both, zeros where an example is left out."""
    q, p, _ = probabilities(student_logits, teacher_logits, temperature, axis)
    keep = numerics.check_mask(mask, q.shape[:-1])[..., None]
    return tuple(jnp.where(keep, x, 0).reshape(-1, q.shape[-1]) for x in (q, p))
