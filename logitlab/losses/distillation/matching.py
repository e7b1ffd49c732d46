"""Losses that match logits or probabilities class by class."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._odds import bernoulli_kl
from logitlab.losses.distillation._pairs import (
    check_temperature,
    per_example,
    prepare_pair,
    scores,
    shares,
)
from logitlab.losses.distillation._relative_entropy import (
    rises,
)
from logitlab.numerics.arguments import hyper, one_hot_mask

__all__ = [
    "binary_kl",
    "normalized_binary_kl",
    "logit_mse_loss",
    "self_distill_mse_loss",
]


def logit_mse_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    center: bool = False,
    scale: ArrayLike = 0.5,
    reduction_axis: Literal["mean", "sum"] = "mean",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared error of the student's logits against the teacher's.

    Use it when teacher and student have logits of one scale.

    .. math:: \ell = \text{scale} \cdot \frac1C \sum_c (s_c - t_c)^2

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. A class at ``-inf``
        is left out too.
      center: subtract the mean difference first: the loss is then that of the logits
        without their means, to which ``kd_loss`` tends for high temperatures.
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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import logit_mse_loss
    >>> logit_mse_loss(jnp.float32([1, 3]), jnp.float32([0, 0]))
    Array(2.5, dtype=float32)
    """
    if reduction_axis not in ("mean", "sum"):
        raise ValueError(
            f"reduction_axis is {reduction_axis!r}, expected 'mean' or 'sum'"
        )
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    shown = t > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(s.dtype)
    d = jnp.where(shown, jnp.where(shown, s, 0) - jnp.where(shown, t, 0), 0)
    if center:
        d = jnp.where(shown, d - jnp.sum(d / count, -1, keepdims=True), 0)
    scale = hyper("scale", scale, s.dtype)
    weight = scale / count if reduction_axis == "mean" else scale
    return jnp.sum(weight * d * d, -1)  # in this order a large mean fits


def self_distill_mse_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    alpha: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared errors of probabilities, against the label and against a teacher.

    Use it when a model is fitted to its own predictions again.

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
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), or ``alpha`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 40, where
      the squares reach the smallest numbers of float32; absolute error of the gradient
      below 1e-7 where two classes lead within 0.05 of each other, whose slopes cancel.

    Source: Even your Teacher Needs Guidance, Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import self_distill_mse_loss
    >>> z = jnp.float32([0, 0])
    >>> self_distill_mse_loss(z, 0, z, alpha=1.0)
    Array(0.25, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    s, t = prepare_pair(logits, teacher_logits, axis=axis, where=where)
    by, other = shares("alpha", alpha, s.dtype)
    label, known = one_hot_mask(s, labels)
    log_q = numerics.log_softmax(scores(s))
    shown = log_q > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1), 1).astype(s.dtype)
    own, q = (
        jnp.where(label & shown, jax.lax.stop_gradient(log_q), 0),
        numerics.softmax(scores(s)),
    )
    # The slope of expm1 is 0 by rounding where that of a probability is not.
    short = jnp.expm1(own) + (q - jax.lax.stop_gradient(q))
    off_label = jnp.where(label & shown, short, q)
    total = by * jnp.sum(off_label**2, -1) + other * jnp.sum(rises(t, s) ** 2, -1)
    return jnp.where(known, total / count, jnp.nan)


def binary_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    eps: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of Bernoulli distributions, one for each class, summed.

    Use it when each class is a binary problem, on a head of its own.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import binary_kl
    >>> print(f"{binary_kl(jnp.float32([40]), jnp.zeros(1), temperature=1.0):.4f}")
    19.3069
    """
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    a, b = (_over(z, temperature) for z in (t, s))
    if eps is None:
        shown = (s > -jnp.inf) & (t > -jnp.inf)
        gap = jnp.where(shown, s, 0) - jnp.where(shown, t, 0)
        gap = jnp.where(shown, gap / temperature, jnp.where(s > -jnp.inf, jnp.inf, 0))
        loss = bernoulli_kl(a, b, gap)
    else:
        (log_p, log_1p), (log_q, log_1q) = (_clipped(z, eps, s.dtype) for z in (a, b))
        loss = _term(log_p, log_q) + _term(log_1p, log_1q)
        loss = jnp.where(s > -jnp.inf, loss, 0)
    scale = per_example(temperature) ** 2
    return scale * jnp.sum(loss, -1)


def normalized_binary_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    eps: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-cosh of the differences of logits, summed.

    Use it when each class is a binary problem and only differences of logits count.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import normalized_binary_kl
    >>> loss = normalized_binary_kl(jnp.float32([2]), jnp.zeros(1), temperature=1.0)
    >>> print(f"{loss:.4f}")
    0.4338
    """
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    shown = t > -jnp.inf
    x = (jnp.where(shown, s, 0) / 2 - jnp.where(shown, t, 0) / 2) / temperature
    if eps is None:
        loss = _log_cosh(x)
    else:
        loss = -sum(_clipped(2 * x, eps, x.dtype)) / 2 - jnp.log(2.0).astype(x.dtype)
    # Not the square: a large loss times T may fit where T squared does not.
    scale = per_example(temperature)
    return scale * jnp.sum(temperature * jnp.where(shown, loss, 0), -1)


@jax.custom_jvp  # finite: a hyperbolic sine has no limit
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


def _over(z, temperature):
    shown = z > -jnp.inf
    return jnp.where(shown, jnp.where(shown, z, 0) / temperature, -jnp.inf)


def _clipped(z, eps, dtype):
    """Logs of a probability and of its complement, both between eps and 1 - eps."""
    valid = lambda e: (e > 0) & (e < 0.5)  # noqa: E731
    eps = hyper("eps", eps, dtype, valid, "a number in (0, 0.5)")
    ends = jnp.log(eps), jnp.log1p(-eps)
    z = jnp.clip(z, -1e4, 1e4)  # at -inf the slope would be NaN; eps is never so small
    return tuple(jnp.clip(jax.nn.log_sigmoid(x), *ends) for x in (z, -z))


def _term(log_p, log_q):
    """A term of a divergence of numbers that need not add up to one."""
    p, u = jnp.exp(log_p), log_q - log_p
    return p * numerics.exp_excess(u)
