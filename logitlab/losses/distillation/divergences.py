"""Divergences between the distributions of a teacher and a student."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import (
    check_temperature,
    half_log_probs,
    per_example,
    student_and_teacher,
    teacher_pairs,
)
from logitlab.losses.distillation.relative_entropy import (
    cross,
    divergence,
    entropy,
    signed_differences,
    to_mixture,
)
from logitlab.losses.labels import checked
from logitlab.losses.rows import Row

__all__ = [
    "generalized_jsd",
    "js_divergence",
    "kd",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "symmetric_kl",
    "total_variation",
]

Form = Literal["kl", "ce"]


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

    >>> print(f"{kd(jnp.float32([40, 0]), jnp.float32([0, 0]), temperature=1.0):.4f}")
    19.3069
    """
    _check_form(form)
    s, t = student_and_teacher(
        student_logits, teacher_logits, axis=axis, where=where, standardize=standardize
    )
    temperature = check_temperature(temperature, s)
    p, q = half_log_probs(t, temperature), half_log_probs(s, temperature)
    return per_example(temperature) ** 2 * _forward(p, q, form)


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

    >>> print(f"{reverse_kl(jnp.float32([0, 0]), jnp.float32([40, 0])):.4f}")
    19.3069
    """
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    return divergence(q, p)


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

    >>> print(f"{symmetric_kl(jnp.float32([40, 0]), jnp.zeros(2), lam=0.0):.4f}")
    19.3069
    """
    _check_form(form)
    _check_share("lam", lam)
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    return _forward(p, q, form, 1 - lam) + lam * divergence(q, p)


def js_divergence(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    lam: float = 0.9,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Skewed Jensen-Shannon divergence.

    .. math:: \ell = \lambda \mathrm{KL}(q \| m) + (1 - \lambda) \mathrm{KL}(p \| m),
        \quad m = (1 - \lambda) p + \lambda q

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.
    ``lam=0.5`` is the classical one, ``generalized_jsd`` the one with
    :math:`\beta = 1 - \lambda`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      lam: the student's part in the mixture, in [0, 1]; the loss is 0 at both ends.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, at most the entropy of ``lam``, float32 (float64 for float64 logits). 0
      where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``lam`` is outside [0, 1], or the temperature is
        not positive.

    Numerics: as ``kd``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> js_divergence(jnp.float32([99, 0]), jnp.float32([0, 99]), lam=0.5)
    Array(0.6931472, dtype=float32)
    """
    _check_share("lam", lam)
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    return lam * to_mixture(q, p, 1 - lam) + (1 - lam) * to_mixture(p, q, lam)


def generalized_jsd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    beta: float = 0.5,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Generalised Jensen-Shannon divergence of on-policy distillation (GKD).

    .. math:: \ell = \beta \mathrm{KL}(p \| m) + (1 - \beta) \mathrm{KL}(q \| m), \quad
        m = (1 - \beta) q + \beta p

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.
    It tends to 0 at both ends; there, ``beta=0`` stands for :math:`\mathrm{KL}(p\|q)`
    and ``beta=1`` for :math:`\mathrm{KL}(q\|p)`, to which the loss tends if it is
    divided by :math:`\beta` or :math:`1 - \beta`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      beta: the teacher's part in the mixture, a number in [0, 1].
      temperature: T, positive, one for all or one per example; both are divided by it.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits); between the ends at most the entropy
      of ``beta``. 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``beta`` is outside [0, 1], or the temperature is
        not positive.

    Numerics: as ``kd``.

    Source: Agarwal et al. 2024, arXiv:2306.13649.

    >>> generalized_jsd(jnp.float32([99, 0]), jnp.float32([0, 99]))
    Array(0.6931472, dtype=float32)
    """
    _check_share("beta", beta)
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    if beta in (0, 1):
        return divergence(p, q) if beta == 0 else divergence(q, p)
    return beta * to_mixture(p, q, 1 - beta) + (1 - beta) * to_mixture(q, p, beta)


def skew_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    alpha: float = 0.1,
    form: Form = "kl",
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of the teacher from a student with some teacher mixed in.

    .. math:: \ell = \mathrm{KL}(p \| \alpha p + (1 - \alpha) q)

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.
    At most :math:`-\log \alpha`, with a gradient that stays bounded where q vanishes.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      alpha: the teacher's part in the mixture, in [0, 1].
      form: ``"ce"`` adds the teacher's entropy, as the released code reports it.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``alpha`` is outside [0, 1], the temperature is not
        positive, or ``form`` is neither of the two.

    Numerics: as ``kd``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> print(f"{skew_kl(jnp.float32([99, 0]), jnp.float32([0, 99])):.4f}")
    2.3026
    """
    _check_form(form)
    _check_share("alpha", alpha)
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    kl = to_mixture(p, q, 1 - alpha)
    return kl + entropy(p) if form == "ce" else kl


def skew_reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    alpha: float = 0.1,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of the student from a teacher with some student mixed in.

    .. math:: \ell = \mathrm{KL}(q \| \alpha q + (1 - \alpha) p)

    with the teacher p and the student q at temperature T, without a factor :math:`T^2`.
    At most :math:`-\log \alpha`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      alpha: the student's part in the mixture, in [0, 1].
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, ``alpha`` is outside [0, 1], or the temperature is
        not positive.

    Numerics: as ``kd``.

    Source: DistiLLM, Ko et al. 2024, arXiv:2402.03898.

    >>> print(f"{skew_reverse_kl(jnp.float32([99, 0]), jnp.float32([0, 99])):.4f}")
    2.3026
    """
    _check_share("alpha", alpha)
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    return to_mixture(q, p, 1 - alpha)


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

    >>> total_variation(jnp.float32([40, 0]), jnp.float32([0, 40]))
    Array(1., dtype=float32)
    """
    p, q = _both(student_logits, teacher_logits, temperature, axis, where)
    return jnp.sum(jnp.abs(signed_differences(p, q)), -1) / 2


def _both(student_logits, teacher_logits, temperature, axis, where):
    """Halves of the teacher's and of the student's log-probabilities."""
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    return half_log_probs(t, temperature), half_log_probs(s, temperature)


def _forward(p, q, form, weight=1.0):
    return (cross if form == "ce" else divergence)(p, q, weight)


def _check_form(form):
    if form not in ("kl", "ce"):
        raise ValueError(f"form is {form!r}, expected 'kl' or 'ce'")


def _check_share(name, value):
    checked(name, value, lambda v: (v >= 0) & (v <= 1), "a number in [0, 1]")


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
        js_divergence,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        upper=float(-0.9 * np.log(0.9) - 0.1 * np.log(0.1)),
        cost=_COST,
    ),
    Row(
        generalized_jsd,
        "example",
        teacher_pairs,
        "GKD, Agarwal et al. 2024, arXiv:2306.13649",
        golden="generalized_jsd",
        upper=float(np.log(2)),
        cost=_COST,
    ),
    Row(
        skew_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        upper=float(np.log(10)),
        cost=_COST,
    ),
    Row(
        skew_reverse_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        golden="distillm_divergences",
        upper=float(np.log(10)),
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
