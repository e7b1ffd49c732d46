"""Distillation that tells the label's class from the others."""

from __future__ import annotations

from typing import Literal, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._odds import bernoulli_kl, log_odds, odds_gap
from logitlab.losses.distillation._pairs import (
    check_temperature,
    per_example,
    prepare_pair,
)
from logitlab.losses.distillation._relative_entropy import (
    cross,
    kl,
)
from logitlab.numerics.arguments import check_distribution_shape, hyper, weighted

__all__ = ["dkd_loss", "nkd_loss", "wsld_loss"]


@overload
def dkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = ...,
    beta: ArrayLike = ...,
    temperature: ArrayLike = ...,
    standardize: bool = ...,
    return_parts: Literal[False] = ...,
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> jax.Array: ...
@overload
def dkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = ...,
    beta: ArrayLike = ...,
    temperature: ArrayLike = ...,
    standardize: bool = ...,
    return_parts: Literal[True],
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> dict[str, jax.Array]: ...
@overload
def dkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = ...,
    beta: ArrayLike = ...,
    temperature: ArrayLike = ...,
    standardize: bool = ...,
    return_parts: bool,
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> jax.Array | dict[str, jax.Array]: ...
def dkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 8.0,
    temperature: ArrayLike = 1.0,
    standardize: bool = False,
    return_parts: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array | dict[str, jax.Array]:
    r"""Decoupled distillation (DKD): target-class and non-target-class terms.

    Use it when the teacher is confident: non-label classes get a weight.

    .. math:: \ell = T^2 [\alpha \mathrm{KL}(b \| b') +
        \beta \mathrm{KL}(\hat p \| \hat q)], \quad b = (p_y, 1 - p_y), \quad
        \hat p_c = p_c / (1 - p_y), c \ne y

    with p, b of the teacher and q, b' of the student at temperature T. Both parts have
    the factor :math:`T^2`. With :math:`\alpha = 1` and :math:`\beta = 1 - p_y` it is
    ``kd_loss``. Objectives add a plain cross-entropy, and multiply this loss by
    ``min(epoch / 20, 1)``.

    Shapes: student_logits [..., C], teacher_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      labels: ints in ``[0, C)``. A hidden one leaves the second part alone.
      alpha: weight of the part that tells the label from the rest.
      beta: weight of the part among the others; 0 with two classes.
      temperature: T, positive, one for all or one per example.
      standardize: ``standardize_logits`` of both first.
      return_parts: also return the two parts, as ``{"tckd": ..., "nckd": ...}``, with
        :math:`T^2` and without their weights.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits), 0 where every class is hidden; or a
      dict of the two parts.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      finite where the released code, which takes the log of sums, is not.

    Source: Decoupled Knowledge Distillation, Zhao et al. 2022, arXiv:2203.08679.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dkd_loss
    >>> dkd_loss(jnp.float32([0, 1]), jnp.float32([0, 1]), 0)
    Array(0., dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    s, t = prepare_pair(
        student_logits, teacher_logits, axis=axis, where=where, standardize=standardize
    )
    index, label, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    scale = per_example(temperature) ** 2
    t_rest, s_rest = (jnp.where(label, -jnp.inf, z) for z in (t, s))
    own = tuple(numerics.take_label_logit(z, index) for z in (t, s))
    target = _against_rest(own, (t_rest, s_rest), temperature)
    rest = kl(t_rest, s_rest, temperature)
    parts = {"tckd": scale * target, "nckd": scale * rest}
    if return_parts:
        return {k: jnp.where(known, v, jnp.nan) for k, v in parts.items()}
    loss = weighted(alpha, parts["tckd"], "alpha")
    loss += weighted(beta, parts["nckd"], "beta")
    return jnp.where(known, loss, jnp.nan)


@overload
def nkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = ...,
    gamma: ArrayLike = ...,
    return_parts: Literal[False] = ...,
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> jax.Array: ...
@overload
def nkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = ...,
    gamma: ArrayLike = ...,
    return_parts: Literal[True],
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> dict[str, jax.Array]: ...
@overload
def nkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = ...,
    gamma: ArrayLike = ...,
    return_parts: bool,
    axis: int = ...,
    where: ArrayLike | None = ...,
) -> jax.Array | dict[str, jax.Array]: ...
def nkd_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    gamma: ArrayLike = 1.5,
    return_parts: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array | dict[str, jax.Array]:
    r"""Normalized distillation (NKD): non-label classes renormalized on both sides.

    Use it when the teacher is confident: non-label classes are compared renormalized.

    .. math:: \ell = -p_y \log q_y - \gamma T^2 \sum_{c \ne y} \hat p_c \log \hat q_c,
        \quad \hat p_c = p^{(T)}_c / (1 - p^{(T)}_y)

    with the teacher p and the student q at temperature 1 in the first part and at T in
    the second, which alone has the factor :math:`T^2`. A cross-entropy, not a
    divergence: it is not 0 where the two agree. The objective is the plain
    cross-entropy plus this.

    Shapes: student_logits [..., C], teacher_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      labels: ints in ``[0, C)``, or floats of the logits' shape (a mixture of labels),
        whose largest entry is taken for the label. A hidden one leaves the second part.
      temperature: T, positive, one for all or one per example.
      gamma: weight of the second part; 0 with two classes.
      return_parts: return the two parts as ``{"target": ..., "non_target": ...}``,
        which add up to the loss.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits), 0 where every class is hidden; or a
      dict of the two parts.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: From Knowledge Distillation to Self-Knowledge Distillation, Yang et al.
      2023, arXiv:2303.13005.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import nkd_loss
    >>> nkd_loss(jnp.float32([0, 0]), jnp.float32([50, 0]), 0)
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    labels = _as_ints(labels, jnp.shape(student_logits), axis)
    index, label, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    p = jnp.exp(-numerics.label_nll(t, index))
    target = weighted(p, numerics.label_nll(s, index))
    t_rest, s_rest = (jnp.where(label, -jnp.inf, z) for z in (t, s))
    rest = cross(t_rest, s_rest, temperature)
    rest = weighted(
        hyper("gamma", gamma, s.dtype) * per_example(temperature) ** 2, rest
    )
    parts = {"target": target, "non_target": rest}
    if return_parts:
        return {k: jnp.where(known, v, jnp.nan) for k, v in parts.items()}
    return jnp.where(known, target + rest, jnp.nan)


def wsld_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 2.25,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weighted soft-label distillation (WSLD): less where the student leads.

    Use it when soft labels should count less where the student is ahead.

    .. math:: \ell = -\alpha T^2 w \sum_c p_c \log q_c, \quad
        w = 1 - \exp\Bigl(-\frac{\ell_s}{\ell_t + 10^{-7}}\Bigr)

    with the teacher p and the student q at temperature T, and :math:`\ell_s, \ell_t`
    their cross-entropies at temperature 1. No gradient passes through w.

    Shapes: student_logits [..., C], teacher_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient.
      labels: ints in ``[0, C)``. A hidden one has weight 1.
      alpha: weight of the loss; 2.25 at T = 4 (CIFAR), 2.5 at T = 2 (ImageNet).
      temperature: T, positive, one for all or one per example.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Rethinking Soft Labels, Zhou et al. 2021, arXiv:2102.00650.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import wsld_loss
    >>> same = jnp.float32([0, 0])
    >>> print(f"{wsld_loss(same, same, 0, temperature=1.0, alpha=1.0):.5f}")  # w = 1 - 1 / e
    0.43815
    """  # noqa: E501 - a test parses the line of shapes
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    index, _, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    ours, theirs = (numerics.label_nll(jax.lax.stop_gradient(z), index) for z in (s, t))
    lost = jnp.isinf(ours)
    w = -jnp.expm1(-jnp.where(lost, 0, ours) / (theirs + 1e-7))
    w = jnp.where(lost, 1, w) * per_example(temperature) ** 2
    loss = weighted(w * hyper("alpha", alpha, s.dtype), cross(t, s, temperature))
    return jnp.where(known, loss, jnp.nan)


def _label(z, labels):
    """Labels as indices, where they are in an array of the logits' shape, if known."""
    index, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1])
    return index, numerics.is_label(z, index), known


def _against_rest(own, rest, temperature):
    """Divergence of two models' odds of the label, 0 where there are no others."""
    shown = (own[1] > -jnp.inf) & (jnp.max(rest[1], -1) > -jnp.inf)
    pairs = zip(own, rest, strict=True)
    odds = (log_odds(z, others, temperature) for z, others in pairs)
    a, b = (jnp.where(shown, z, 0) for z in odds)
    gap = odds_gap(own, rest, temperature)
    return jnp.where(shown, bernoulli_kl(a, b, jnp.where(shown, gap, 0)), 0)


def _as_ints(labels, shape, axis):
    numerics.check_is_array(labels, "labels")
    if jnp.issubdtype(jnp.result_type(labels), jnp.floating):
        labels = jnp.asarray(labels)
        check_distribution_shape("labels", labels, shape)
        return jnp.argmax(labels, axis)
    return labels
