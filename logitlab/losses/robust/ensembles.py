"""A freshly drawn calibrated loss at every step, known by its derivative only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import binary, one_hot_mask
from logitlab.theory.ensembles import _derivatives

__all__ = ["ensloss", "multiclass_ensloss"]


def ensloss(
    logits: ArrayLike,
    labels: ArrayLike,
    key: jax.Array | None,
    *,
    lam: ArrayLike = 0.0,
    normal_draws: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch whose gradient is that of a random calibrated binary loss.

    Use it when labels are binary and no single surrogate should decide: every step
    draws one.

    .. math:: \frac1n \sum_i \mathrm{sg}(g_i)\, m_i, \quad m_i = (2 t_i - 1) s_i

    with :math:`g` from ``ensloss_derivatives``. The value is not a risk; only its
    gradient means anything.

    Shapes: logits [..., N], labels [..., N], mask [..., N] -> [...]

    Args:
      logits: one score per example.
      labels: 0 or 1, or negative for an example without a label.
      key: of ``jax.random``, a fresh one for every step; not used with
        ``normal_draws``.
      lam: Box-Cox parameter; 0 in every published run. May be traced.
      normal_draws: standard normal numbers of the logits' shape in place of ``key``.
      mask: bool, the examples that take part. Their own draws are shared among them.

    Returns:
      The mean of :math:`g_i m_i`, float32 (float64 for float64 logits); 0 without
      examples, NaN if one that takes part has no label.

    Raises:
      ValueError: labels of another shape or others (NaN under ``jit``).

    Numerics: relative error below 1e-5 for the same draws, which are made in float32.

    Source: EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ensloss
    >>> draws = jnp.zeros(2)  # both derivatives are -1
    >>> ensloss(jnp.float32([0.5, 1.0]), jnp.array([1, 0]), None, normal_draws=draws)
    Array(0.25000024, dtype=float32)
    """
    s = numerics.promote_to_float32(logits)
    if s.ndim == 0:
        raise ValueError("logits has shape (), expected examples on the last axis")
    keep = numerics.check_mask(mask, s.shape)
    t, bad = binary(labels, s.shape, s.dtype, keep, soft=False)
    margins = jnp.where(keep, jnp.where(t == 1, s, -s), 0)
    g = _derivatives(margins, key, normal_draws, keep, lam, -1.0, 1e-6)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(s.dtype)
    terms = jnp.where(bad, jnp.nan, jnp.where(keep, g * margins / count, 0))
    return jnp.sum(terms, -1)


def multiclass_ensloss(
    logits: ArrayLike,
    labels: ArrayLike,
    key: jax.Array | None,
    *,
    kind: str = "margin",
    lam: ArrayLike = 0.0,
    normal_draws: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: ``ensloss`` for classes, an extension of ours.

    Use it when you want ``ensloss`` for more than two classes.

    .. math:: \frac1n \sum_i \mathrm{sg}(g_i)\, m_i, \quad
        m_i = z_{i, y_i} - \max_{c \ne y_i} z_{i, c}

    or, for ``kind="ovr"``, ``ensloss`` of every class against the rest, each with its
    own draws, added up. The paper has two classes only. The value is not a risk; only
    its gradient means anything. Two classes of scores s and 0 give ``ensloss`` of s.

    Shapes: logits [..., N, C], labels [..., N], where [..., N, C], mask [..., N]
      -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      key: of ``jax.random``, a fresh one for every step; not used with
        ``normal_draws``.
      kind: ``margin`` or ``ovr``.
      lam: Box-Cox parameter; 0 in every published run. May be traced.
      normal_draws: standard normal numbers in place of ``key``, one per example,
        [..., N], for ``ovr`` one per class and example, [..., C, N].
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``; an
        example without another class costs 0.
      mask: bool, the examples that take part.

    Returns:
      The mean of :math:`g_i m_i`, float32 (float64 for float64 logits); 0 without
      examples.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: an unknown ``kind``, no axis of examples, wrong shapes, or a label out
        of range (NaN under ``jit``).

    Numerics: relative error below 1e-5 for the same draws, which are made in float32.

    Source: [inferred] from EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multiclass_ensloss
    >>> z, draws = jnp.float32([[0.5, 0], [1, 0]]), jnp.zeros(2)
    >>> multiclass_ensloss(z, jnp.array([0, 1]), None, normal_draws=draws)
    Array(0.25000024, dtype=float32)
    """
    if kind not in ("margin", "ovr"):
        raise ValueError(f"kind is {kind!r}, expected 'margin' or 'ovr'")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected [..., N, C]")
    y, keep = numerics.wide_labels(labels), numerics.check_mask(mask, z.shape[:-1])
    if mask is not None:
        y = jnp.where(keep, y, 0) if y.shape == keep.shape else y
        z = jnp.where(keep[..., None], z, 0)
    is_label, known = one_hot_mask(z, y)
    shown = z > -jnp.inf
    some = shown.any(-1)
    z = jnp.where(shown, z, 0)
    lost = keep & some & ~jnp.any(is_label & shown, -1)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(z.dtype)
    if kind == "margin":
        rival = shown & ~is_label
        used = keep & rival.any(-1)
        rivals = jnp.max(jnp.where(rival, z, -jnp.inf), -1)
        score = jnp.sum(jnp.where(is_label, z, 0), -1)
        h = score - jnp.where(used, rivals, 0)
    else:
        used = jnp.moveaxis(shown & keep[..., None], -1, -2)
        h = jnp.moveaxis(jnp.where(is_label, z, -z), -1, -2)
        count = count[..., None, :]
    h = jnp.where(used, h, 0)
    g = _derivatives(h, key, normal_draws, used, lam, -1.0, 1e-6)
    terms = jnp.where(used, g * h / count, 0)
    terms = terms if kind == "margin" else jnp.sum(terms, -2)
    terms = jnp.where(keep & ~known, jnp.nan, jnp.where(lost, jnp.inf, 0) + terms)
    return jnp.sum(terms, -1)
