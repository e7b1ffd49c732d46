"""Losses of a batch's probabilities: correlations within rows and columns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import (
    probabilities,
)
from logitlab.numerics.arguments import weighted

__all__ = [
    "dist_loss",
    "dist_inter_loss",
    "dist_intra_loss",
]


def dist_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    gamma: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Distillation from a stronger teacher (DIST), one number for a batch.

    Use it when the teacher is much stronger than the student.

    .. math:: \ell = \beta \frac1N \sum_n (1 - \rho(q_{n\cdot}, p_{n\cdot})) +
        \gamma \frac1C \sum_c (1 - \rho(q_{\cdot c}, p_{\cdot c})), \quad
        \rho(a, b) = \frac{\sum \bar a \bar b}{\|\bar a\| \|\bar b\| + 10^{-8}}

    Pearson correlations of the softmaxes p, q at temperature T, across the classes of
    an example and across the examples of a class. There is no factor :math:`T^2`. With
    a sharded batch the statistics are those of all of it, where released code takes
    those of each device.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C], mask [...] -> []

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      beta: weight of the part across classes (``dist_inter_loss``).
      gamma: weight of the part across examples (``dist_intra_loss``). Both 1 at T = 1 for
        ImageNet, 2 at T = 4 for CIFAR-100.
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool, the examples that do.

    Returns:
      In [0, 2 (beta + gamma)], float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Numerics: relative error below 1e-4 of the largest part; the constant in the
      denominator rules where probabilities hardly vary.

    Source: Huang et al. 2022, arXiv:2205.10536.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dist_loss
    >>> z = jnp.float32([[1, 0, -1], [0, 2, 0]])
    >>> dist_loss(z, z).round(4)
    Array(0., dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    options: dict[str, Any] = dict(temperature=temperature, axis=axis, where=where)
    inter = dist_inter_loss(student_logits, teacher_logits, **options)
    intra, shown = _by_class(student_logits, teacher_logits, mask=mask, **options)
    inter = numerics.masked_mean(inter, mask)
    return weighted(beta, inter, "beta") + weighted(
        gamma, numerics.masked_mean(intra, shown), "gamma"
    )


def dist_inter_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""One minus the correlation of two models' probabilities across the classes.

    Use it when you want the part of ``dist_loss`` across classes.

    .. math:: \ell = 1 - \rho(q, p), \quad
        \rho(a, b) = \frac{\sum_c \bar a_c \bar b_c}{\|\bar a\| \|\bar b\| + 10^{-8}}

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      temperature: of both softmaxes, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      In [0, 2], 1 where one of the two is uniform, float32 (float64 for float64
      logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Numerics: absolute error below 1e-6, value and gradient, at temperature 1: where the
      two agree, one minus the correlation is a difference of numbers near 1.

    Source: DIST, Huang et al. 2022, arXiv:2205.10536.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dist_inter_loss
    >>> dist_inter_loss(jnp.float32([1, 0]), jnp.float32([0, 1])).round(4)
    Array(2., dtype=float32)
    """
    q, p, shown = probabilities(
        student_logits, teacher_logits, temperature, axis, where
    )
    loss = 1 - _pearson(q, p, shown, -1)
    return jnp.where(jnp.any(shown, -1), loss, 0)


def dist_intra_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""The part of ``dist_loss`` across the examples, one number for each class.

    Use it when you want the part of ``dist_loss`` across examples.

    .. math:: \ell_c = 1 - \rho(q_{\cdot c}, p_{\cdot c})

    with the correlation and the softmaxes of ``dist_loss``, which takes the mean.
    Arguments and errors are those of ``dist_loss``.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C], mask [...] -> [C]

    Returns:
      In [0, 2], 1 where a class has the same probability in every example (as in a
      batch of one), float32 (float64 for float64 logits); 0 for a class that is hidden
      everywhere.

    Source: DIST, Huang et al. 2022, arXiv:2205.10536.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dist_intra_loss
    >>> dist_intra_loss(jnp.float32([[1, 0]]), jnp.float32([[1, 0]]))
    Array([1., 1.], dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    intra, _ = _by_class(
        student_logits,
        teacher_logits,
        temperature=temperature,
        axis=axis,
        where=where,
        mask=mask,
    )
    return intra


def _by_class(student_logits, teacher_logits, *, temperature, axis, where, mask):
    """One number for each class, and which of them any example has."""
    q, p, shown = probabilities(
        student_logits, teacher_logits, temperature, axis, where
    )
    keep = numerics.check_mask(mask, q.shape[:-1])[..., None]
    examples = tuple(range(q.ndim - 1))
    shown = jnp.any(shown & keep, examples)
    loss = 1 - _pearson(q, p, keep, examples)
    return jnp.where(shown, loss, 0), shown


def _pearson(a, b, keep, axes):
    """Correlation along axes, over the entries that count; 0 where one is constant."""
    return _correlation(a, b, jnp.broadcast_to(keep, a.shape), axes)


def _correlation(a, b, keep, axes):
    a, b = _centred(a, keep, axes), _centred(b, keep, axes)
    product = jnp.sum(a * b, axes, keepdims=True)
    return jnp.squeeze(product / (_norm(a, axes) * _norm(b, axes) + 1e-8), axes)


def _centred(x, keep, axes):
    count = jnp.maximum(jnp.sum(keep, axes, keepdims=True), 1).astype(x.dtype)
    mean = jnp.sum(jnp.where(keep, x, 0), axes, keepdims=True) / count
    return jnp.where(keep, x - mean, 0)


def _norm(x, axes):
    square = jnp.sum(x * x, axes, keepdims=True)
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
