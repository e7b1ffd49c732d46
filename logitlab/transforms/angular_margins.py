"""Margins on the angle between an embedding and its class."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import check_range, hyper, one_hot_mask

__all__ = ["arcface_logits", "cosface_logits", "label_sines", "magface_logits"]


def cosface_logits(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
) -> jax.Array:
    r"""Cosines scaled to logits, the label's less by a margin (CosFace).

    Use it before any loss, when classes should be apart by an amount, not only ordered.

    .. math:: z_c = s (\cos\theta_c - m [c = y])

    Shapes: cosines [..., C], labels [...] -> [..., C]

    Args:
      cosines: of ``cosine_logits(embeddings, kernel, scale=1.0)``.
      labels: ints in ``[0, C)``; a negative one gets no margin.
      margin: at least 0.
      scale: above 0.

    Returns:
      float32 (float64 for float64 cosines).

    Raises:
      TypeError: ``cosines`` is not floating point, or ``labels`` not integer.
      ValueError: labels of another shape or of C or more (no margin under ``jit``), or
        a hyper-parameter out of its range.

    Source: Wang et al. 2018, arXiv:1801.09414.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import cosface_logits
    >>> cosface_logits(jnp.float32([0.5, 0.5]), 1, margin=0.25, scale=4.0)
    Array([2., 1.], dtype=float32)
    """
    c, is_label, scale = _arguments(cosines, labels, scale)
    margin = hyper("margin", margin, c.dtype, lambda m: m >= 0, "at least 0")
    return scale * jnp.where(is_label, c - margin, c)


def arcface_logits(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
    monotone: bool = True,
    sines: ArrayLike | None = None,
) -> jax.Array:
    r"""Cosines scaled to logits, the label's at an angle larger by a margin (ArcFace).

    Use it before any loss, when classes should be apart by an angle.

    .. math:: z_c = s \cos(\theta_c + m [c = y]), \quad
        \cos(\theta + m) = \cos\theta \cos m - \sin\theta \sin m

    Shapes: cosines [..., C], labels [...], sines [...] -> [..., C]

    Args:
      cosines: of ``cosine_logits(embeddings, kernel, scale=1.0)``.
      labels: ints in ``[0, C)``; a negative one gets no margin.
      margin: an angle in ``[0, pi]``, one number or one per example.
      scale: above 0.
      monotone: beyond the angle :math:`\pi - m`, where :math:`\cos(\theta + m)` turns,
        the label's logit is :math:`s(\cos\theta - m \sin m)`, so that it falls with the
        angle everywhere. False leaves it as it is.
      sines: of the label's angles, by ``label_sines``. By default made of the cosines,
        of which rounding leaves no more than 3e-4 of a small angle.

    Returns:
      float32 (float64 for float64 cosines).

    Raises:
      TypeError: ``cosines`` or ``sines`` is not floating point, or ``labels`` not
        integer.
      ValueError: labels or sines of another shape, a label of C or more (no margin
        under ``jit``), or a hyper-parameter out of its range.

    Numerics: exact given cosines and sines, without an arc cosine, whose slope at 1 is
      infinite. At an angle of exactly 0 or pi the sine has no gradient.

    Source: Deng et al. 2019, arXiv:1801.07698.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import arcface_logits
    >>> logits = arcface_logits(jnp.float32([0, 1]), 1, margin=0.5, scale=1.0)
    >>> f"{logits[1]:.4f}"
    '0.8776'
    """

    def turned(cosine, sine, m):
        return _turned(cosine, sine, m, monotone)

    return _with_angles(cosines, labels, margin, scale, sines, turned)


def magface_logits(
    cosines: ArrayLike,
    labels: ArrayLike,
    norms: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    margin_low: ArrayLike = 0.45,
    margin_high: ArrayLike = 0.8,
    norm_low: ArrayLike = 10.0,
    norm_high: ArrayLike = 110.0,
    easy_margin: bool = True,
    sines: ArrayLike | None = None,
) -> jax.Array:
    r"""Cosines scaled to logits, with an angular margin that grows with the norm.

    Use it before any loss, when the norm of an embedding should tell its quality;
    ``losses.magface_penalty`` keeps norms from shrinking.

    .. math:: z_c = s \cos(\theta_c + m(a) [c = y]), \quad
        m(a) = m_l + (m_u - m_l) \frac{a - a_l}{a_u - a_l}

    with a the norm, clipped to :math:`[a_l, a_u]`, beyond which it has no gradient.

    Shapes: cosines [..., C], labels [...], norms [...], sines [...] -> [..., C]

    Args:
      cosines: of ``cosine_logits(embeddings, kernel, scale=1.0)``.
      labels: ints in ``[0, C)``; a negative one gets no margin.
      norms: lengths of the embeddings.
      scale: above 0.
      margin_low: the margin at ``norm_low``, an angle in ``[0, pi]``.
      margin_high: that at ``norm_high``, no smaller.
      norm_low: above 0.
      norm_high: above ``norm_low``.
      easy_margin: no margin where the cosine is not above 0; otherwise as
        ``arcface_logits`` does with ``monotone``.
      sines: of the label's angles, by ``label_sines``; by default made of the cosines.

    Returns:
      float32 (float64 for float64 cosines).

    Raises:
      TypeError: an array is not floating point, or ``labels`` not integer.
      ValueError: shapes that do not fit together, a label of C or more (no margin under
        ``jit``), or a hyper-parameter out of its range.

    Numerics: as for ``arcface_logits``.

    Source: Meng et al. 2021, arXiv:2103.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import magface_logits
    >>> cosines = jnp.float32([[0, 1], [0, 1]])
    >>> norms = jnp.float32([1, 200])
    >>> print(magface_logits(cosines, jnp.ones(2, int), norms, scale=1.0).round(4))
    [[0.     0.9004]
     [0.     0.6967]]
    """
    a = numerics.promote_to_float32(norms, "norms")
    low, high = norm_range(norm_low, norm_high, a.dtype)
    least = angle("margin_low", margin_low, a.dtype)
    most = angle("margin_high", margin_high, a.dtype, margin_low)
    share = (jnp.clip(a, low, high) - low) / (high - low)
    margin = least + (most - least) * share

    def turned(cosine, sine, m):
        if not easy_margin:
            return _turned(cosine, sine, m, True)
        return jnp.where(cosine > 0, _turned(cosine, sine, m, False), cosine)

    return _with_angles(cosines, labels, margin, scale, sines, turned)


def label_sines(
    embeddings: ArrayLike, labels: ArrayLike, kernel: ArrayLike
) -> jax.Array:
    r"""Sines of the angles between embeddings and their classes, exact for small ones.

    Use it for the ``sines`` of ``arcface_logits``: of a cosine in float32 nothing is
    left of an angle below 3e-4.

    .. math:: \sin\theta = \tfrac12 \|\hat e - \hat w_y\| \, \|\hat e + \hat w_y\|

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: of any length.
      labels: ints in ``[0, C)``; for any other the result says nothing.
      kernel: one column for each class. Only the labels' are looked at.

    Returns:
      From 0 to 1, float32 (float64 for float64 embeddings).

    Raises:
      TypeError: an array is not floating point, or ``labels`` not integer.
      ValueError: a kernel of another width, or labels of another shape.

    Numerics: absolute error below 1e-6. At 0 there is no gradient.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import label_sines
    >>> kernel = jnp.float32([[1, 3], [1e-5, 4]])
    >>> label_sines(jnp.float32([[1, 0], [1, 0]]), jnp.arange(2), kernel)
    Array([1.e-05, 8.e-01], dtype=float32)
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    w = numerics.promote_to_float32(kernel, "kernel")
    y = numerics.wide_labels(labels)
    if e.ndim == 0 or w.ndim != 2 or w.shape[0] != e.shape[-1] or not w.shape[1]:
        raise ValueError(
            f"kernel has shape {w.shape}, expected [D, C] with D the width of "
            f"embeddings, {e.shape}"
        )
    if y.shape != e.shape[:-1]:
        raise ValueError(f"labels has shape {y.shape}, expected {e.shape[:-1]}")
    e, own = unit(e), unit(_rows_of(w.T, y, e))
    return _distance(e, own) * _distance(e, -own) / 2


def angle(
    name: str, value: ArrayLike, dtype: jnp.dtype, least: ArrayLike = 0.0
) -> jax.Array:
    """A margin that is an angle, refused outside its range."""
    if isinstance(least, jax.core.Tracer):
        least = 0.0
    valid = lambda m: (m >= least) & (m <= math.pi)  # noqa: E731
    return hyper(name, value, dtype, valid, f"an angle in [{least}, pi]")


def norm_range(
    norm_low: ArrayLike, norm_high: ArrayLike, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """The norms between which a margin grows, refused where they are out of order."""
    low = hyper("norm_low", norm_low, dtype, lambda a: a > 0, "above 0")
    if not isinstance(norm_low, jax.core.Tracer):
        text = f"above norm_low, {norm_low}"
        check_range("norm_high", norm_high, lambda a: a > norm_low, text)
    return low, hyper("norm_high", norm_high, dtype)


def _arguments(cosines, labels, scale):
    """Promoted cosines, where the label is, and the scale."""
    c = numerics.promote_to_float32(cosines, "cosines")
    if c.ndim == 0 or c.shape[-1] == 0:
        raise ValueError(f"cosines has shape {c.shape}, expected at least one class")
    is_label, _ = one_hot_mask(c, labels)
    return c, is_label, hyper("scale", scale, c.dtype, lambda s: s > 0, "above 0")


def _with_angles(cosines, labels, margin, scale, sines, turned: Callable):
    """Logits in which the label's cosine is ``turned`` by the margin."""
    c, is_label, scale = _arguments(cosines, labels, scale)
    rows = c.shape[:-1]
    margin = angle("margin", margin, c.dtype)
    if margin.shape not in ((), rows):
        raise ValueError(f"margin has shape {margin.shape}, expected () or {rows}")
    own = jnp.sum(jnp.where(is_label, c, 0), -1)
    if sines is None:
        square = (1 - own) * (1 + own)
        some = square > 0
        sine = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    else:
        sine = numerics.promote_to_float32(sines, "sines").astype(c.dtype)
        if sine.shape != rows:
            raise ValueError(f"sines has shape {sine.shape}, expected {rows}")
    return scale * jnp.where(is_label, turned(own, sine, margin)[..., None], c)


def _turned(cosine, sine, margin, monotone):
    """Cosine of the angle plus the margin, or of an angle beyond pi something less."""
    cos_m, sin_m = jnp.cos(margin), jnp.sin(margin)
    further = cosine * cos_m - sine * sin_m
    if not monotone:
        return further
    return jnp.where(cosine > -cos_m, further, cosine - margin * sin_m)


def _rows_of(table, labels, like):
    """Of each label its row, laid out as an array of the result's shape."""
    sharding = jax.typeof(like).sharding
    if not any((*sharding.spec, *jax.typeof(table).sharding.spec)):
        return jnp.take(table, labels, axis=0, mode="clip")
    return table.at[labels].get(mode="clip", out_sharding=sharding)


def _distance(a, b):
    """Between rows of unit length; equal ones have no slope."""
    square = jnp.sum((a - b) ** 2, -1)
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
