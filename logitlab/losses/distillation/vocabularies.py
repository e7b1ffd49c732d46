"""Distillation between models whose vocabularies differ."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import check_temperature, scores
from logitlab.losses.distillation._relative_entropy import variation
from logitlab.metrics.vocabularies import coactivation_degree

__all__ = ["gld_loss", "uld_loss"]


def uld_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    student_temperature: ArrayLike = 1.0,
    teacher_temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Universal logit distillation (ULD): L1 distance of sorted probabilities.

    Use it when the teacher has another tokenizer or vocabulary.

    .. math:: \ell = \sum_i |p_{(i)} - q_{(i)}|

    with the teacher p and the student q at their own temperatures, each sorted by
    decreasing size and the shorter one filled up with zeros. In [0, 2]; no factor
    :math:`T^2`. For sequences, take as many steps as the shorter answer has, from the
    position that predicts its first token.

    Shapes: student_logits [..., V], teacher_logits [..., W], where [..., V] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: over another vocabulary; they get no gradient.
      student_temperature: positive, one for all or one per example.
      teacher_temperature: the same for the teacher.
      axis: the class axis.
      where: bool, the classes of the student that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where either has every class hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ in more than the number of classes, or a
        temperature that is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Universal Logit Distillation, Boizard et al. 2024, arXiv:2402.12030.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import uld_loss
    >>> uld_loss(jnp.float32([0, 0]), jnp.float32([-99, 99, -99]))
    Array(1., dtype=float32)
    """
    s = numerics.prepare_logits(
        student_logits, axis=axis, where=where, name="student_logits"
    )
    t = numerics.prepare_logits(teacher_logits, axis=axis, name="teacher_logits")
    if t.shape[:-1] != s.shape[:-1]:
        raise ValueError(
            f"teacher_logits has shape {jnp.shape(teacher_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, but for the classes"
        )
    t = jax.lax.stop_gradient(t).astype(s.dtype)
    heat = check_temperature(teacher_temperature, t, "teacher_temperature")
    ratio = heat / check_temperature(student_temperature, s, "student_temperature")
    # Of one temperature, as they are: differences of logits lose nothing.
    tempered = jnp.where(ratio == 1, s, scores(s) * ratio)
    size = max(t.shape[-1], s.shape[-1])
    p, q = _sorted(t, size), _sorted(tempered, size)
    # On an explicit mesh the two may be laid out differently; their sum is not.
    ranked = p + jnp.zeros_like(q), q + jnp.zeros_like(p)
    t_some, s_some = (jnp.max(z, -1) > -jnp.inf for z in ranked)
    return jnp.where(t_some & s_some, 2 * variation(*ranked, heat), 0)


def gld_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    k: int = 10,
    power: Literal[1, 2] = 2,
    align: Literal["pad", "quantile"] = "pad",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Graph-on-logits distillation, one value for each sequence.

    Use it when the teacher has another vocabulary and the structure of top tokens
    counts.

    .. math:: \ell = \frac1V \sum_i |f^s_{(i)} - f^t_{(i)}|^{\text{power}}

    with the sorted degrees of the two graphs of ``coactivation_degree``: the graphs'
    Gromov-Wasserstein distance, from below (``sorted_gw_bounds``). 0 between equal
    graphs, whatever their nodes are called, and between some that differ. Beyond the
    abstract's top-k, outer products, sorting and closed form this is inferred.

    Shapes: student_logits [..., S, V], teacher_logits [..., S, W], mask [..., S] -> [...]

    Args:
      student_logits: of the positions of a sequence.
      teacher_logits: of the same positions, over another vocabulary; they get no
        gradient.
      k: how many logits of a position are kept.
      power: 2, or 1 for absolute differences.
      align: what is done about vocabularies of different size: ``"pad"`` gives the
        smaller one nodes of degree 0, ``"quantile"`` interpolates its sorted degrees.
      mask: bool, the positions that count.

    Returns:
      In the fourth power of the logits' units (``power=1``: in the second), float32
      (float64 for float64). 0 without any position.

    Raises:
      TypeError: logits are not floating point or ``mask`` is not bool.
      ValueError: shapes that do not fit, ``k`` below 1, or an unknown ``power`` or
        ``align``.

    Numerics: relative error below 1e-5 of the largest degree's power.

    Source: InfiGFusion, Wang et al. 2025, arXiv:2505.13893; inferred from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import gld_loss
    >>> s, t = jnp.float32([[1, 0], [0, 2]]), jnp.float32([[1, 1], [1, 0]])
    >>> gld_loss(s, t, k=2)
    Array(0.0625, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if power not in (1, 2):
        raise ValueError(f"power is {power}, expected 1 or 2")
    if align not in ("pad", "quantile"):
        raise ValueError(f"align is {align!r}, expected 'pad' or 'quantile'")
    if jnp.shape(teacher_logits)[:-1] != jnp.shape(student_logits)[:-1]:
        raise ValueError(
            f"teacher_logits has shape {jnp.shape(teacher_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, but for the classes"
        )
    f = coactivation_degree(student_logits, k=k, mask=mask)
    g = jax.lax.stop_gradient(coactivation_degree(teacher_logits, k=k, mask=mask))
    size = max(f.shape[-1], g.shape[-1])
    f, g = (_aligned(x, size, align) for x in (f, g.astype(f.dtype)))
    d = f - g
    return jnp.mean(jnp.abs(d) if power == 1 else d * d, -1)


def _sorted(x, size):
    """Sorted from the largest, filled up with classes that have no probability."""
    x = -jnp.sort(-x, -1)
    missing = size - x.shape[-1]
    pad = [(0, 0)] * (x.ndim - 1) + [(0, missing)]
    return jnp.pad(x, pad, constant_values=-jnp.inf)


def _aligned(f, size, align):
    missing = size - f.shape[-1]
    f = jnp.sort(f, -1)
    if not missing:
        return f
    if align == "pad":
        # Zeros between the signs, after sorting: XLA (jaxlib 0.10.2) aborts where a
        # padded array is sorted with its classes on a mesh.
        none, axes = [(0, 0)] * (f.ndim - 1), f.ndim - 1
        early, late = (jnp.pad(f, [*none, pad]) for pad in ((0, missing), (missing, 0)))
        place = jax.lax.broadcasted_iota(jnp.int32, early.shape, axes)
        negative = jnp.sum(f < 0, -1, keepdims=True)
        late = jnp.where(place < negative + missing, 0, late)
        return jnp.where(place < negative, early, late)
    at = jnp.linspace(0, f.shape[-1] - 1, size, dtype=f.dtype)
    below = jnp.clip(jnp.floor(at).astype(int), 0, max(f.shape[-1] - 2, 0))
    above = jnp.minimum(below + 1, f.shape[-1] - 1)
    share = (at - below).reshape((1,) * (f.ndim - 1) + (-1,))
    return (1 - share) * f[..., below] + share * f[..., above]
