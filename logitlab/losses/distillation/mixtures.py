"""Divergences from mixtures of a teacher's and a student's distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.distillation._pairs import (
    Form,
    check_form,
    pair,
    scores,
    shares,
    temperature_squared,
)
from logitlab.losses.distillation._relative_entropy import (
    entropy,
    js_from_logits,
    kl,
    kl_to_mixture,
)

__all__ = ["js_divergence", "skew_kl", "skew_reverse_kl"]


def js_divergence(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    skew: ArrayLike = 0.5,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Jensen-Shannon divergence of teacher and student; skewed, that of GKD.

    Use it when you want a bounded divergence, or GKD's skewed one.

    .. math:: \ell = T^2 [\kappa \mathrm{KL}(p \| m) + (1 - \kappa)
        \mathrm{KL}(q \| m)], \quad m = \kappa p + (1 - \kappa) q

    with the teacher p and the student q at temperature T and ``skew`` :math:`\kappa`.
    It tends to 0 at both ends; there, ``skew=0`` stands for :math:`\mathrm{KL}(p\|q)`
    and ``skew=1`` for :math:`\mathrm{KL}(q\|p)`, to which the loss tends if it is
    divided by :math:`\kappa` or :math:`1 - \kappa`. GKD writes :math:`\beta` for
    ``skew``, DistiLLM :math:`\lambda` for ``1 - skew``.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      skew: the teacher's weight in the mixture, in [0, 1].
      temperature: T, positive, one for all or one per example; both are divided by it.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits); between the ends at most :math:`T^2`
      times the entropy of ``skew``. 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``skew`` is outside [0, 1], or the temperature is
        not positive.

    Numerics: as ``kd_loss``.

    Source: Agarwal et al. 2024, arXiv:2306.13649; Ko et al. 2024, arXiv:2402.03898.

    >>> import numpy as np
    >>> from logitlab.losses import js_divergence
    >>> js_divergence(np.float32([99, 0]), np.float32([0, 99]))
    Array(0.6931472, dtype=float32)
    """
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    factor = temperature_squared(temperature, scale_by_temperature_squared)
    both = theirs, ours = shares("skew", skew, s.dtype)
    if not isinstance(skew, jax.core.Tracer):  # one of three
        if skew == 0:
            return factor * kl(t, s, temperature)
        if skew == 1:
            return factor * kl(s, t, temperature)
        return factor * js_from_logits(t, s, temperature, both)
    between = js_from_logits(t, s, temperature, both)
    backward = jnp.where(ours == 0, kl(s, t, temperature), between)
    return factor * jnp.where(theirs == 0, kl(t, s, temperature), backward)


def skew_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    skew: ArrayLike = 0.1,
    form: Form = "kl",
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Skewed KL: of the teacher from a mixture of student and teacher.

    Use it when an LLM student learns from its own or its teacher's texts.

    .. math:: \ell = T^2 \, \mathrm{KL}(p \| \kappa p + (1 - \kappa) q)

    with the teacher p and the student q at temperature T and ``skew`` :math:`\kappa`.
    At most :math:`-T^2 \log \kappa`, with a gradient that stays bounded where q
    vanishes.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      skew: the teacher's weight in the mixture, in [0, 1].
      form: ``"ce"`` adds the teacher's entropy, as the released code reports it.
      temperature: T, positive, one for all or one per example.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``skew`` is outside [0, 1], the temperature is not
        positive, or ``form`` is neither of the two.

    Numerics: as ``kd_loss``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> import numpy as np
    >>> from logitlab.losses import skew_kl
    >>> print(f"{skew_kl(np.float32([99, 0]), np.float32([0, 99])):.4f}")
    2.3026
    """
    check_form(form)
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    loss = kl_to_mixture(t, s, temperature, shares("skew", skew, s.dtype))
    if form == "ce":
        loss += entropy(scores(t, temperature))
    return temperature_squared(temperature, scale_by_temperature_squared) * loss


def skew_reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    skew: ArrayLike = 0.9,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Skewed reverse KL: of the student from a mixture of teacher and student.

    Use it when an LLM student learns by the divergence of ``skew_kl`` from its own
    side.

    .. math:: \ell = T^2 \, \mathrm{KL}(q \| \kappa p + (1 - \kappa) q)

    with the teacher p and the student q at temperature T and ``skew`` :math:`\kappa`,
    1 less the released code's :math:`\alpha`. At most
    :math:`-T^2 \log (1 - \kappa)`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      skew: the teacher's weight in the mixture, in [0, 1].
      temperature: T, positive, one for all or one per example.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``skew`` is outside [0, 1], or the temperature is
        not positive.

    Numerics: as ``kd_loss``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> import numpy as np
    >>> from logitlab.losses import skew_reverse_kl
    >>> print(f"{skew_reverse_kl(np.float32([99, 0]), np.float32([0, 99])):.4f}")
    2.3026
    """
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    theirs, ours = shares("skew", skew, s.dtype)
    loss = kl_to_mixture(s, t, temperature, (ours, theirs))
    return temperature_squared(temperature, scale_by_temperature_squared) * loss
