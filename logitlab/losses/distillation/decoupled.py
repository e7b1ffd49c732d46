"""Distillation that tells the label's class from the others."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.pairs import (
    check_temperature,
    half_log_softmax,
    half_scores,
    half_top,
    labelled_pairs,
    log_total,
    mass,
    mass_times,
    per_example,
    student_and_teacher,
)
from logitlab.losses.distillation.relative_entropy import cross, kl
from logitlab.losses.rows import Row

__all__ = ["dkd", "nkd", "wsld"]


def dkd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 8.0,
    temperature: ArrayLike = 4.0,
    standardize: bool = False,
    return_parts: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array | dict[str, jax.Array]:
    r"""Decoupled distillation: the label against the rest, and the rest by itself.

    .. math:: \ell = T^2 [\alpha \mathrm{KL}(b \| b') +
        \beta \mathrm{KL}(\hat p \| \hat q)], \quad b = (p_y, 1 - p_y), \quad
        \hat p_c = p_c / (1 - p_y), c \ne y

    with p, b of the teacher and q, b' of the student at temperature T. Both parts have
    the factor :math:`T^2`. With :math:`\alpha = 1` and :math:`\beta = 1 - p_y` it is
    ``kd``. Objectives add a plain cross-entropy, and multiply this loss by
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
      ValueError: the shapes differ, wrong label shape, a label out of range (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      finite where the released code, which takes the log of sums, is not.

    Source: Decoupled Knowledge Distillation, Zhao et al. 2022, arXiv:2203.08679.

    >>> dkd(jnp.float32([0, 1]), jnp.float32([0, 1]), 0)
    Array(0., dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    s, t = student_and_teacher(
        student_logits, teacher_logits, axis=axis, where=where, standardize=standardize
    )
    index, label, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    scale = per_example(temperature) ** 2
    (p, p_rest), (q, q_rest) = (_split(z, index, label, temperature) for z in (t, s))
    parts = {"tckd": scale * kl(p, q), "nckd": scale * kl(p_rest, q_rest)}
    if return_parts:
        return {k: jnp.where(known, v, jnp.nan) for k, v in parts.items()}
    return jnp.where(known, alpha * parts["tckd"] + beta * parts["nckd"], jnp.nan)


def nkd(
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
    r"""Normalised distillation: the non-label parts add up to one on both sides.

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
      ValueError: the shapes differ, wrong label shape, a label out of range (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: From Knowledge Distillation to Self-Knowledge Distillation, Yang et al.
      2023, arXiv:2303.13005.

    >>> nkd(jnp.float32([0, 0]), jnp.float32([50, 0]), 0)
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    labels = _as_ints(labels, jnp.shape(student_logits), axis)
    index, label, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    (p, p_rest), (q, q_rest) = (_split(z, index, label) for z in (t, s))
    target = -mass_times(mass(p), half_log_softmax(q))[..., 0]
    rest = cross(p_rest / temperature, q_rest / temperature, gamma * temperature**2)
    parts = {"target": target, "non_target": rest}
    if return_parts:
        return {k: jnp.where(known, v, jnp.nan) for k, v in parts.items()}
    return jnp.where(known, target + rest, jnp.nan)


def wsld(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 2.25,
    temperature: ArrayLike = 4.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weighted soft labels: less of them where the student is ahead of its teacher.

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
      ValueError: the shapes differ, wrong label shape, a label out of range (NaN under
        ``jit``), or the temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Rethinking Soft Labels, Zhou et al. 2021, arXiv:2102.00650.

    >>> same = jnp.float32([0, 0])
    >>> print(f"{wsld(same, same, 0, temperature=1.0, alpha=1.0):.5f}")  # w = 1 - 1 / e
    0.43815
    """  # noqa: E501 - a test parses the line of shapes
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    index, _, known = _label(s, labels)
    temperature = check_temperature(temperature, s)
    ours, theirs = (numerics.label_nll(jax.lax.stop_gradient(z), index) for z in (s, t))
    lost = jnp.isinf(ours)
    w = -jnp.expm1(-jnp.where(lost, 0, ours) / (theirs + 1e-7))
    w = jnp.where(lost, 1, w) * alpha * per_example(temperature) ** 2
    p, q = half_scores(t, temperature), half_scores(s, temperature)
    return jnp.where(known, w * cross(p, q), jnp.nan)


def _label(z, labels):
    """Labels as indices, where they are in an array of the logits' shape, if known."""
    index, known = numerics.known_labels(labels, z.shape[:-1], z.shape[-1])
    return index, numerics.is_label(z, index), known


def _split(z, index, label, temperature=1.0):
    """Half scores of the label and of all others together; those of the others."""
    rest = jnp.where(label, -jnp.inf, z)
    others = half_scores(rest, temperature)
    own = numerics.label_score(z, index)[..., None]
    ahead = numerics.below(own / 2, half_top(rest)) / temperature
    ahead -= log_total(others) / 2
    alone = jnp.max(rest, -1, keepdims=True) == -jnp.inf
    pair = [jnp.where(alone & (own > -jnp.inf), 0, jnp.minimum(ahead, 0))]
    pair += [jnp.where(alone, -jnp.inf, jnp.minimum(-ahead, 0))]
    return jnp.concatenate(pair, -1), others


def _as_ints(labels, shape, axis):
    labels = jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != shape:
            raise ValueError(f"labels has shape {labels.shape}, expected {shape}")
        return jnp.argmax(labels, axis)
    return labels


_COST = "distributions of both models, with and without the label"

ROWS = (
    Row(
        dkd,
        "example",
        labelled_pairs,
        "Zhao et al. 2022, arXiv:2203.08679",
        golden="dkd",
        convex=True,
        cost=_COST,
    ),
    Row(
        nkd,
        "example",
        labelled_pairs,
        "Yang et al. 2023, arXiv:2303.13005",
        golden="nkd",
        convex=True,
        cost=_COST,
    ),
    Row(
        wsld,
        "example",
        labelled_pairs,
        "Zhou et al. 2021, arXiv:2102.00650",
        golden="wsld",
        cost="distributions of both models",
        surrogate="the weight is a constant",
    ),
)
