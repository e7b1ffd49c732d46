"""Losses that match logits or probabilities class by class."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import (
    check_temperature,
    half_log_probs,
    labelled_pairs,
    per_example,
    student_and_teacher,
    teacher_pairs,
)
from logitlab.losses.distillation.relative_entropy import (
    bernoulli_kl,
    divergence,
    signed_differences,
)
from logitlab.losses.labels import checked, label_mask
from logitlab.losses.rows import Row

__all__ = ["binary_kl", "binary_kl_norm", "logit_mse", "self_distill_mse"]


def logit_mse(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    center: bool = False,
    scale: ArrayLike = 0.5,
    reduction_axis: Literal["mean", "sum"] = "mean",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared differences of logits.

    .. math:: \ell = \text{scale} \cdot \frac1C \sum_c (s_c - t_c)^2

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. A class at ``-inf``
        is left out too.
      center: subtract the mean difference first: the loss is then that of the logits
        without their means, to which ``kd`` tends for high temperatures.
      scale: 0.5 as in margin-preserving training; others have 1.
      reduction_axis: ``"mean"`` or ``"sum"`` over the classes.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      In squared units of the logits, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or ``reduction_axis`` is neither of the two.

    Numerics: relative error below 1e-5 of a squared difference.

    Source: Ba and Caruana 2014, arXiv:1312.6184; LM of margin-preserving training,
      arXiv:2511.08322.

    >>> logit_mse(jnp.float32([1, 3]), jnp.float32([0, 0]))
    Array(2.5, dtype=float32)
    """
    if reduction_axis not in ("mean", "sum"):
        raise ValueError(
            f"reduction_axis is {reduction_axis!r}, expected 'mean' or 'sum'"
        )
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    shown = t > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(s.dtype)
    d = jnp.where(shown, jnp.where(shown, s, 0) - jnp.where(shown, t, 0), 0)
    if center:
        d = jnp.where(shown, d - jnp.sum(d / count, -1, keepdims=True), 0)
    weight = scale / count if reduction_axis == "mean" else scale
    return jnp.sum(weight * d * d, -1)  # in this order a large mean fits


def self_distill_mse(
    logits: ArrayLike,
    labels: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    alpha: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared errors of probabilities, against the label and against a teacher.

    .. math:: \ell = \frac{\alpha}{C} \sum_c (q_c - [c = y])^2 +
        \frac{1 - \alpha}{C} \sum_c (q_c - p_c)^2

    with p the teacher's and q the student's softmax: one step of self-distillation. The
    released code adds the sum of the parameters' norms (not squared).

    Shapes: logits [..., C], labels [...], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      logits: the student's; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      teacher_logits: of the model of the step before; they get no gradient.
      alpha: the labels' share, in [0, 1].
      axis: the class axis.
      where: bool, the classes that take part; C counts them.

    Returns:
      float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, wrong label shape, a label out of range (NaN under
        ``jit``), or ``alpha`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 40, where
      the squares reach the smallest numbers of float32.

    Source: Even your Teacher Needs Guidance, Borup and Andersen 2021, arXiv:2102.13088.

    >>> z = jnp.float32([0, 0])
    >>> self_distill_mse(z, 0, z, alpha=1.0)
    Array(0.25, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    checked("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")
    s, t = student_and_teacher(logits, teacher_logits, axis=axis, where=where)
    label, known = label_mask(s, labels)
    q = half_log_probs(s)
    count = jnp.maximum(jnp.sum(q > -jnp.inf, -1), 1).astype(s.dtype)
    shown = q > -jnp.inf
    by_label = jnp.where(label, jnp.expm1(2 * q), jnp.exp(2 * q))
    by_label = jnp.where(shown, by_label, 0)
    by_teacher = signed_differences(half_log_probs(t), q)
    total = alpha * jnp.sum(by_label**2, -1) + (1 - alpha) * jnp.sum(by_teacher**2, -1)
    return jnp.where(known, total / count, jnp.nan)


def binary_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 2.0,
    eps: float | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of Bernoulli distributions, one for each class, summed.

    .. math:: \ell = T^2 \sum_c \mathrm{KL}(\mathrm{Bern}(\sigma(t_c / T)) \|
        \mathrm{Bern}(\sigma(s_c / T)))

    BinaryKL of dual-head distillation: a sum over classes, with the factor
    :math:`T^2`. It sees the logits' size, which a softmax does not.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      temperature: T, positive, one for all or one per example.
      eps: clips the probabilities to ``[eps, 1 - eps]`` as the released code does with
        1e-8; the gradient is then 0 where a student's probability is clipped.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, the temperature is not positive, or ``eps`` is
        outside (0, 0.5).

    Numerics: relative error below 1e-5, value and gradient, for logits up to 80.

    Source: Dual-Head Knowledge Distillation, Yang et al. 2024, arXiv:2411.08937.

    >>> print(f"{binary_kl(jnp.float32([40]), jnp.zeros(1), temperature=1.0):.4f}")
    19.3069
    """
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    if eps is None:
        loss = bernoulli_kl(*(_half_logits(z, temperature) for z in (t, s)))
    else:
        heat = temperature[..., None] if temperature.ndim else temperature
        pairs = (jnp.stack([z, jnp.zeros_like(z)], -1) for z in (t, s))
        p, q = (_clipped(half_log_probs(z, heat), eps) for z in pairs)
        loss = jnp.where(s > -jnp.inf, divergence(p, q), 0)
    return per_example(temperature) ** 2 * jnp.sum(loss, -1)


def binary_kl_norm(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 2.0,
    eps: float | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-cosh of the differences of logits, summed.

    .. math:: \ell = T^2 \sum_c \mathrm{KL}(\mathrm{Bern}(\tfrac12) \|
        \mathrm{Bern}(\sigma((s_c - t_c) / T)))
        = T^2 \sum_c \log\cosh \frac{s_c - t_c}{2T}

    BinaryKL-Norm, which dual-head distillation trains its second head with: a square of
    the difference over 8 near 0, linear far away, its slope
    :math:`\frac T2 \tanh \frac{s_c - t_c}{2T}`. A sum over classes, with the factor
    :math:`T^2`.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. A class at ``-inf`` is
        left out too.
      temperature: T, positive, one for all or one per example.
      eps: clips the probability to ``[eps, 1 - eps]`` as the released code does with
        1e-8; the gradient is then 0 where it is clipped.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, the temperature is not positive, or ``eps`` is
        outside (0, 0.5).

    Numerics: relative error below 1e-5, value and gradient, of the differences.

    Source: Dual-Head Knowledge Distillation, Yang et al. 2024, arXiv:2411.08937.

    >>> print(f"{binary_kl_norm(jnp.float32([2]), jnp.zeros(1), temperature=1.0):.4f}")
    0.4338
    """
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    shown = t > -jnp.inf
    x = (jnp.where(shown, s, 0) / 2 - jnp.where(shown, t, 0) / 2) / temperature
    if eps is None:
        loss = _log_cosh(x)
    else:
        q = half_log_probs(jnp.stack([2 * x, jnp.zeros_like(x)], -1))
        loss = -jnp.sum(_clipped(q, eps), -1) - jnp.log(2.0).astype(x.dtype)
    # Not the square: a large loss times T may fit where T squared does not.
    scale = per_example(temperature)
    return scale * jnp.sum(temperature * jnp.where(shown, loss, 0), -1)


@jax.custom_jvp
def _log_cosh(x):
    size = jnp.abs(x)
    near = size < 1
    close = jnp.log1p(2 * jnp.sinh(jnp.where(near, x, 0) / 2) ** 2)
    far = size - (jnp.log(2.0).astype(x.dtype) - jnp.log1p(jnp.exp(-2 * size)))
    return jnp.where(near, close, far)


@_log_cosh.defjvp
def _log_cosh_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_cosh(x), jnp.tanh(x) * dx


def _half_logits(z, temperature):
    shown = z > -jnp.inf
    return jnp.where(shown, jnp.where(shown, z, 0) / 2 / temperature, -jnp.inf)


def _clipped(half, eps):
    """Halves of log-probabilities between eps and 1 - eps."""
    checked("eps", eps, lambda e: (e > 0) & (e < 0.5), "a number in (0, 0.5)")
    eps = jnp.asarray(eps, half.dtype)
    return jnp.clip(half, jnp.log(eps) / 2, jnp.log1p(-eps) / 2)


def _labels_between(key, shape, dtype):
    s, t, y = labelled_pairs(key, shape, dtype)
    return s, y, t


_DHKD = "Dual-Head KD, Yang et al. 2024, arXiv:2411.08937"

ROWS = (
    Row(
        logit_mse,
        "example",
        teacher_pairs,
        "Ba and Caruana 2014, arXiv:1312.6184",
        golden="mpt_negative_flips",
        shift_invariant=False,
        convex=True,
    ),
    Row(
        self_distill_mse,
        "example",
        _labels_between,
        "Borup and Andersen 2021, arXiv:2102.13088",
        hyper={"alpha": 0.35},
        upper=1.0,
        cost="distributions of both models",
    ),
    Row(
        binary_kl,
        "example",
        teacher_pairs,
        _DHKD,
        golden="dhkd",
        shift_invariant=False,
        convex=True,
        cost="two probabilities for each class and model",
    ),
    Row(
        binary_kl_norm,
        "example",
        teacher_pairs,
        _DHKD,
        golden="dhkd",
        shift_invariant=False,
        convex=True,
        cost="a hyperbolic cosine of every logit",
    ),
)
