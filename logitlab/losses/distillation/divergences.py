"""Divergences between the distributions of a teacher and a student."""

import jax
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import (
    Form,
    check_form,
    check_share,
    check_temperature,
    half_log_pair,
    half_score_pair,
    half_scores,
    per_example,
    student_and_teacher,
    teacher_pairs,
)
from logitlab.losses.distillation.relative_entropy import (
    cross,
    kl,
    variation,
)
from logitlab.losses.rows import Row

__all__ = [
    "kd",
    "reverse_kl",
    "symmetric_kl",
    "total_variation",
]


def kd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 4.0,
    form: Form = "kl",
    standardize: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Hinton's knowledge distillation, one value per example.

    .. math:: \ell = T^2 \, \mathrm{KL}(p \| q), \quad p = \mathrm{softmax}(t / T),
        \quad q = \mathrm{softmax}(s / T)

    The factor :math:`T^2` is part of the loss, and keeps the gradient :math:`T (q - p)`
    at the size of the logits for any temperature; towards infinity the loss is half of
    the mean squared difference of the centred logits. Curriculum temperature (CTKD) is
    this loss with a learned ``temperature``, whose gradient is reversed.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. ``-inf`` is a
        probability of 0.
      temperature: T, positive, one for all or one per example; may be traced and gets
        its gradient.
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

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80; never
      negative, and exact for a student near its teacher.

    Source: Hinton et al. 2015, arXiv:1503.02531; standardised, Sun et al. 2024,
      arXiv:2403.01427.

    >>> import jax.numpy as jnp
    >>> print(f"{kd(jnp.float32([40, 0]), jnp.float32([0, 0]), temperature=1.0):.4f}")
    19.3069
    """
    check_form(form)
    s, t = student_and_teacher(
        student_logits, teacher_logits, axis=axis, where=where, standardize=standardize
    )
    temperature = check_temperature(temperature, s)
    a, b = (half_scores(z, temperature) for z in (t, s))
    return per_example(temperature) ** 2 * _forward(a, b, form)


def reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Kullback-Leibler divergence from the student's side, which seeks one mode.

    .. math:: \ell = \mathrm{KL}(q \| p), \quad p = \mathrm{softmax}(t / T),
        \quad q = \mathrm{softmax}(s / T)

    Without a factor :math:`T^2`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. A class at ``-inf``
        costs ``inf``.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ or the temperature is not positive.

    Numerics: as ``kd``.

    Source: MiniLLM, Gu et al. 2024, arXiv:2306.08543; DistiLLM, Ko et al. 2024,
      arXiv:2402.03898.

    >>> import jax.numpy as jnp
    >>> print(f"{reverse_kl(jnp.float32([0, 0]), jnp.float32([40, 0])):.4f}")
    19.3069
    """
    a, b = half_score_pair(student_logits, teacher_logits, temperature, axis, where)
    return kl(b, a)


def symmetric_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    lam: float = 0.9,
    form: Form = "kl",
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Forward and reverse divergence, weighed.

    .. math:: \ell = (1 - \lambda) \mathrm{KL}(p \| q) + \lambda \mathrm{KL}(q \| p)

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      lam: the weight of the reverse divergence, in [0, 1].
      form: ``"ce"`` leaves the teacher's entropy in the forward part, as the released
        code does.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``lam`` is outside [0, 1], the temperature is not
        positive, or ``form`` is neither of the two.

    Numerics: as ``kd``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> import jax.numpy as jnp
    >>> print(f"{symmetric_kl(jnp.float32([40, 0]), jnp.zeros(2), lam=0.0):.4f}")
    19.3069
    """
    check_form(form)
    check_share("lam", lam)
    a, b = half_score_pair(student_logits, teacher_logits, temperature, axis, where)
    return _forward(a, b, form, 1 - lam) + lam * kl(b, a)


def total_variation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Total variation distance, in [0, 1].

    .. math:: \ell = \tfrac12 \sum_c |p_c - q_c|

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.
    Where the two are equal the gradient is 0.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ or the temperature is not positive.

    Numerics: as ``kd``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> import jax.numpy as jnp
    >>> total_variation(jnp.float32([40, 0]), jnp.float32([0, 40]))
    Array(1., dtype=float32)
    """
    p, q = half_log_pair(student_logits, teacher_logits, temperature, axis, where)
    return variation(p, q)


def _forward(a, b, form, weight=1.0):
    return (cross if form == "ce" else kl)(a, b, weight)


_COST = "both distributions and their ratio are arrays of the logits' size"
_DISTILLM = "DistiLLM, Ko et al. 2024, arXiv:2402.03898"

ROWS = (
    Row(
        kd,
        "example",
        teacher_pairs,
        "Hinton et al. 2015, arXiv:1503.02531",
        golden="kd",
        convex=True,
        cost=_COST,
    ),
    Row(
        reverse_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        cost=_COST,
    ),
    Row(
        symmetric_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        cost=_COST,
    ),
    Row(
        total_variation,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        upper=1.0,
        cost=_COST,
    ),
)
