"""Divergences from mixtures of a teacher's and a student's distributions."""

import jax
import numpy as np
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import (
    Form,
    check_form,
    check_share,
    half_log_pair,
    half_log_softmax,
    half_score_pair,
    teacher_pairs,
)
from logitlab.losses.distillation.relative_entropy import (
    entropy,
    jensen,
    kl,
    to_mixture,
)
from logitlab.losses.rows import Row

__all__ = ["generalized_jsd", "js_divergence", "skew_kl", "skew_reverse_kl"]


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

    >>> js_divergence(np.float32([99, 0]), np.float32([0, 99]), lam=0.5)
    Array(0.6931472, dtype=float32)
    """
    check_share("lam", lam)
    p, q = half_log_pair(student_logits, teacher_logits, temperature, axis, where)
    return jensen(p, q, lam)


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

    >>> generalized_jsd(np.float32([99, 0]), np.float32([0, 99]))
    Array(0.6931472, dtype=float32)
    """
    check_share("beta", beta)
    a, b = half_score_pair(student_logits, teacher_logits, temperature, axis, where)
    if beta in (0, 1):
        return kl(a, b) if beta == 0 else kl(b, a)
    p, q = half_log_softmax(a), half_log_softmax(b)
    return jensen(p, q, 1 - beta)


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

    >>> print(f"{skew_kl(np.float32([99, 0]), np.float32([0, 99])):.4f}")
    2.3026
    """
    check_form(form)
    check_share("alpha", alpha)
    p, q = half_log_pair(student_logits, teacher_logits, temperature, axis, where)
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

    >>> print(f"{skew_reverse_kl(np.float32([99, 0]), np.float32([0, 99])):.4f}")
    2.3026
    """
    check_share("alpha", alpha)
    p, q = half_log_pair(student_logits, teacher_logits, temperature, axis, where)
    return to_mixture(q, p, 1 - alpha)


_COST = "both distributions and their ratio are arrays of the logits' size"
_DISTILLM = "DistiLLM, Ko et al. 2024, arXiv:2402.03898"

ROWS = (
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
)
