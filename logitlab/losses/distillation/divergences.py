"""Divergences between the distributions of a teacher and a student."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from logitlab.losses.distillation._pairs import (
    Form,
    check_form,
    check_temperature,
    pair,
    prepare_pair,
    shares,
    temperature_squared,
)
from logitlab.losses.distillation._relative_entropy import cross, kl, variation
from logitlab.numerics.arguments import weighted

__all__ = [
    "kd_loss",
    "reverse_kl",
    "symmetric_kl",
    "total_variation_divergence",
]


def kd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    form: Form = "kl",
    standardize: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Hinton's knowledge distillation, one value per example.

    Use it when a small student learns from a teacher's logits.

    .. math:: \ell = T^2 \, \mathrm{KL}(p \| q), \quad p = \mathrm{softmax}(t / T),
        \quad q = \mathrm{softmax}(s / T)

    The factor :math:`T^2` keeps the gradient :math:`T (q - p)`
    at the size of the logits for any temperature; towards infinity the loss is half of
    the mean squared difference of the centred logits. Curriculum temperature (CTKD) is
    this loss with a learned ``temperature``, whose gradient is reversed.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. ``-inf`` is a
        probability of 0.
      temperature: T, positive, one for all or one per example; may be traced and gets
        its gradient. 4 is usual for image classifiers.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      form: ``"kl"``, or ``"ce"`` for :math:`-T^2 \sum_c p_c \log q_c`, which differs by
        the teacher's entropy: another value, the same gradient in the logits.
      standardize: ``standardize_logits`` of both first.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, the temperature is not positive, or ``form`` is
        neither of the two.

    Numerics: relative error below 1e-5, value and gradient in the logits, for margins
      up to 80 and temperatures from 0.01 to 100, for a student near its teacher too;
      never negative.

    Source: Hinton et al. 2015, arXiv:1503.02531; standardised, Sun et al. 2024,
      arXiv:2403.01427.

    >>> from logitlab.losses import kd_loss
    >>> import jax.numpy as jnp
    >>> loss = kd_loss(jnp.float32([40, 0]), jnp.float32([0, 0]), temperature=1.0)
    >>> print(f"{loss:.4f}")
    19.3069
    """
    check_form(form)
    s, t = prepare_pair(
        student_logits, teacher_logits, axis=axis, where=where, standardize=standardize
    )
    temperature = check_temperature(temperature, s)
    factor = temperature_squared(temperature, scale_by_temperature_squared)
    return factor * _forward(t, s, temperature, form)


def reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Reverse KL divergence, of the student from the teacher: mode-seeking.

    Use it when the student should seek one mode rather than cover all.

    .. math:: \ell = T^2 \, \mathrm{KL}(q \| p), \quad p = \mathrm{softmax}(t / T),
        \quad q = \mathrm{softmax}(s / T)

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. A class at ``-inf``
        costs ``inf``.
      temperature: T, positive, one for all or one per example.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ or the temperature is not positive.

    Numerics: as ``kd_loss``.

    Source: MiniLLM, Gu et al. 2024, arXiv:2306.08543; DistiLLM, Ko et al. 2024,
      arXiv:2402.03898.

    >>> from logitlab.losses import reverse_kl
    >>> import jax.numpy as jnp
    >>> print(f"{reverse_kl(jnp.float32([0, 0]), jnp.float32([40, 0])):.4f}")
    19.3069
    """
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    factor = temperature_squared(temperature, scale_by_temperature_squared)
    return factor * kl(s, t, temperature)


def symmetric_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    reverse_weight: ArrayLike = 0.9,
    form: Form = "kl",
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weighted sum of the forward and the reverse KL divergence.

    Use it when you want both directions, weighted.

    .. math:: \ell = T^2 [(1 - \lambda) \mathrm{KL}(p \| q)
        + \lambda \mathrm{KL}(q \| p)]

    with the teacher p and the student q at temperature T.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      reverse_weight: :math:`\lambda`, the weight of the reverse divergence, in [0, 1].
      form: ``"ce"`` leaves the teacher's entropy in the forward part, as the released
        code does.
      temperature: T, positive, one for all or one per example.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``reverse_weight`` is outside [0, 1], the
        temperature is not positive, or ``form`` is neither of the two.

    Numerics: as ``kd_loss``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> from logitlab.losses import symmetric_kl
    >>> import jax.numpy as jnp
    >>> loss = symmetric_kl(jnp.float32([40, 0]), jnp.zeros(2), reverse_weight=0)
    >>> print(f"{loss:.4f}")
    19.3069
    """
    check_form(form)
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    reverse, rest = shares("reverse_weight", reverse_weight, s.dtype)
    forward = weighted(rest, _forward(t, s, temperature, form))
    factor = temperature_squared(temperature, scale_by_temperature_squared)
    return factor * (forward + weighted(reverse, kl(s, t, temperature)))


def total_variation_divergence(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Total variation distance, in [0, 1] at temperature 1.

    Use it when you want the distance that draft acceptance depends on.

    .. math:: \ell = T^2 \, \tfrac12 \sum_c |p_c - q_c|

    with the teacher p and the student q at temperature T. Where the two are equal
    the gradient is 0.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      temperature: T, positive, one for all or one per example.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ or the temperature is not positive.

    Numerics: as ``kd_loss``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> from logitlab.losses import total_variation_divergence
    >>> import jax.numpy as jnp
    >>> total_variation_divergence(jnp.float32([40, 0]), jnp.float32([0, 40]))
    Array(1., dtype=float32)
    """
    s, t, temperature = pair(student_logits, teacher_logits, temperature, axis, where)
    factor = temperature_squared(temperature, scale_by_temperature_squared)
    return factor * variation(t, s, temperature)


def _forward(t, s, temperature, form):
    return (cross if form == "ce" else kl)(t, s, temperature)
