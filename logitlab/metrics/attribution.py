"""Which part of a network wrote which logit, and which features count for it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics.arguments import hyper

__all__ = [
    "attribution_nmae",
    "direct_effect",
    "direct_logit_attribution",
    "importance_distribution",
    "pairwise_order_agreement",
]


def direct_logit_attribution(
    parts: ArrayLike,
    kernel: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    std: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    center: bool = False,
    epsilon: ArrayLike = 1e-5,
) -> jax.Array:
    r"""What each part of the residual stream adds to the logits (DLA).

    Use it to see which head or layer wrote a prediction. It is the effect of taking the
    part away, see :func:`direct_effect`, only if the last norm divides by a constant.

    .. math:: a_{ct} = \frac{r_c - \bar r_c}{s} \odot \gamma \cdot U_t, \quad
        s = \sqrt{\mathrm{var}(r) + \epsilon}, \quad r = \sum_c r_c

    The logits are the sum over the parts plus what no part wrote, beta . U and the bias
    of the head.

    Shapes: parts [P, ..., D], kernel [D, C] -> [P, ..., C]

    Args:
      parts: what is summed to the stream before the last norm: the embedding, the
        output of each head and layer, biases. See ``models.residual_parts``.
      kernel: U, of the head.
      scale: gamma of the last norm, [D]; by default 1.
      std: what the norm divides by where that is a constant: a number, or one for each
        position [...]. By default s, held fixed.
      tokens: ints [...]: only the logits of these are attributed.
      residual: the stream itself [..., D], if it should be checked that the parts add
        up to it.
      center: whether the mean over the classes is taken off the kernel, so that
        differences between logits are attributed.
      epsilon: of the norm.

    Returns:
      In units of logits, [P, ..., C] or with ``tokens`` [P, ...], float32 (float64 for
      float64); NaN at a negative token.

    Raises:
      TypeError: an array is not floating point, or ``tokens`` not integer.
      ValueError: the shapes disagree, ``std`` is not positive, a token is C or more
        (NaN under ``jit``), or the parts do not add up to ``residual`` (not looked at
        under ``jit``).

    Numerics: relative error below 1e-5 of the largest part's, for streams up to 1e30;
      a logit is linear in the parts, so that no attribution vanishes for a model that
      is sure.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; norms
      that divide by a constant: arXiv:2507.02559.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import direct_logit_attribution
    >>> parts = jnp.float32([[3, 1], [-1, 1]])  # of one position
    >>> print(direct_logit_attribution(parts, jnp.eye(2), std=2.0))
    [[ 0.5 -0.5]
     [-0.5  0.5]]
    """
    r = numerics.promote_to_float32(parts, "parts")
    centered, _, inverse = _normed(r, std, residual, epsilon)
    return _read(centered * inverse, r.dtype, kernel, scale, tokens, center)


def direct_effect(
    parts: ArrayLike,
    kernel: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    std: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    center: bool = False,
    epsilon: ArrayLike = 1e-5,
) -> jax.Array:
    r"""How much the logits fall if one part is taken from the residual stream.

    Use it to see what :func:`direct_logit_attribution` misses: the last norm divides by
    less, or more, once the part is gone.

    .. math:: z_t(r) - z_t(r - r_c)

    Shapes: parts [P, ..., D], kernel [D, C] -> [P, ..., C]

    Args, returns and errors are those of ``direct_logit_attribution``; with ``std`` the
    two are the same, bit for bit.

    Numerics: relative error below 1e-5 of the largest part's: the difference of two
      logits is not computed as such.

    Source: arXiv:2507.02559.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import direct_effect
    >>> parts = jnp.float32([[3, 1], [-1, 1]])
    >>> print(direct_effect(parts, jnp.eye(2), std=2.0))
    [[ 0.5 -0.5]
     [-0.5  0.5]]
    """
    r = numerics.promote_to_float32(parts, "parts")
    centered, unit, inverse = _normed(r, std, residual, epsilon)
    if std is None:
        u, whole = centered / unit, jnp.sum(centered, 0, keepdims=True) / unit
        floor = _floor(epsilon, unit)
        s = jnp.sqrt(jnp.mean(jnp.square(whole), -1, keepdims=True) + floor)
        left = jnp.sqrt(jnp.mean(jnp.square(whole - u), -1, keepdims=True) + floor)
        # 1 / s - 1 / left, by what the square of the one lacks of the other's
        fall = jnp.mean(u * (u - 2 * whole), -1, keepdims=True)
        fall = fall / (s * left * (s + left))
        effect = jnp.where(
            left > s / 2, u / left + whole * fall, whole / s - (whole - u) / left
        )
    else:
        effect = centered * inverse
    return _read(effect, r.dtype, kernel, scale, tokens, center)


def attribution_nmae(
    attributions: ArrayLike, effects: ArrayLike, *, mask: ArrayLike | None = None
) -> Mean:
    r"""How far attributions are from effects, as a share of these (NMAE).

    .. math:: \frac{\sum |a - e|}{\sum |e|}

    Shapes: attributions [P, ...], effects [P, ...] -> [P], [P]

    Args:
      attributions: of ``direct_logit_attribution``.
      effects: of ``direct_effect``.
      mask: bool, the positions that count: of the shape of all axes but the first, or
        of the first of these.

    Returns:
      A ``Mean`` for each part, whose sums add over batches and, for all parts at once,
      over the parts: ``jax.tree.map(jnp.sum, found)``. Times 100 it is in percent; NaN
      where no effect is other than 0.

    Raises:
      TypeError: an array is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree.

    Source: arXiv:2507.02559.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import attribution_nmae
    >>> found = attribution_nmae(jnp.float32([[1, 2]]), jnp.float32([[1, 4]]))
    >>> print(found.value)
    [0.4]
    """
    a = numerics.promote_to_float32(attributions, "attributions")
    e = numerics.promote_to_float32(effects, "effects")
    if not a.ndim or a.shape != e.shape:
        raise ValueError(
            f"attributions has shape {a.shape} and effects {e.shape}, expected one "
            "shape [P, ...]"
        )
    shape = a.shape[1:] if mask is None else a.shape[1 : 1 + np.ndim(mask)]
    keep = numerics.check_mask(mask, shape)
    keep = keep.reshape(1, *keep.shape, *[1] * (a.ndim - 1 - keep.ndim))
    over = tuple(range(1, a.ndim))
    return Mean(
        *(jnp.sum(jnp.where(keep, jnp.abs(x), 0), over) for x in (a - e, e)),
    )


def importance_distribution(
    attributions: ArrayLike, *, eps: ArrayLike = 1e-8, mask: ArrayLike | None = None
) -> jax.Array:
    r"""How much each feature counts for a model, as shares of 1.

    Use it to compare models by what they look at: the reference of
    ``losses.factor_consistency_loss`` is the mean of several models' shares.

    .. math:: q_f = \frac{I_f}{\sum_g I_g}, \quad I_f = \frac1N \sum_i |\phi_{if}|

    Shapes: attributions [N, F], mask [N] -> [F]

    Args:
      attributions: phi, for instance the inputs times the gradients of a logit, or
        of :func:`explain`.
      eps: added to each importance, in units of the largest, so that none is 0.
      mask: bool, the examples that count.

    Returns:
      float32 (float64 for float64), the same everywhere if nothing counts.

    Raises:
      TypeError: ``attributions`` is not floating point or ``mask`` is not bool.
      ValueError: ``attributions`` is not [N, F], the shapes disagree, or ``eps`` is
        negative.

    Numerics: relative error below 1e-5, for attributions up to 1e30.

    Source: Factor consistency, arXiv:2402.12398; the attributions are inferred from
      the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import importance_distribution
    >>> importance_distribution(jnp.float32([[3, 0], [-3, 2]]))
    Array([0.75, 0.25], dtype=float32)
    """
    phi = numerics.promote_to_float32(attributions, "attributions")
    if phi.ndim != 2:
        raise ValueError(f"attributions has shape {phi.shape}, expected [N, F]")
    eps = hyper("eps", eps, phi.dtype, lambda e: e >= 0, "at least 0")
    keep = numerics.check_mask(mask, phi.shape[:1])
    size = jnp.abs(jnp.where(keep[:, None], phi, 0))
    largest = jax.lax.stop_gradient(jnp.max(size, initial=0))
    importance = jnp.sum(size / jnp.where(largest > 0, largest, 1), 0)
    top = jax.lax.stop_gradient(jnp.max(importance, initial=0))
    importance = importance / jnp.where(top > 0, top, 1)
    importance = importance + jnp.where(top > 0, eps, 1)
    return importance / jnp.sum(importance)


def pairwise_order_agreement(first: ArrayLike, second: ArrayLike) -> Mean:
    r"""Share of the pairs of features that two models put in the same order.

    .. math:: \frac{2}{F (F - 1)} \sum_{f < g}
        \frac{1 + \mathrm{sign}(I_f - I_g) \, \mathrm{sign}(J_f - J_g)}{2}

    That is half of 1 plus Kendall's tau: 1/2 for unrelated orders, to which a tie
    counts.

    Shapes: first [F], second [F] -> [], []

    Args:
      first: importances I of the features, in any unit.
      second: importances J.

    Returns:
      A ``Mean`` over the pairs, which adds over data sets and pairs of models; NaN
      below two features or if an importance is NaN.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ or have more than one axis.

    Source: Kendall 1938, A new measure of rank correlation; of factors:
      arXiv:2402.12398.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import pairwise_order_agreement
    >>> one, other = jnp.float32([0.5, 0.3, 0.2]), jnp.float32([0.5, 0.1, 0.4])
    >>> print(f"{float(pairwise_order_agreement(one, other)):.4f}")
    0.6667
    """
    i = numerics.promote_to_float32(first, "first")
    j = numerics.promote_to_float32(second, "second")
    if i.ndim != 1 or i.shape != j.shape:
        raise ValueError(
            f"first has shape {i.shape} and second {j.shape}, expected one shape [F]"
        )
    order, other = (jnp.sign(a[:, None] - a[None]) for a in (i, j))
    agree = (1 + order * other.astype(order.dtype)) / 2
    pairs = np.triu(np.ones(agree.shape, bool), 1)
    return Mean(jnp.sum(jnp.where(pairs, agree, 0)), jnp.asarray(int(pairs.sum())))


def _normed(parts, std, residual, epsilon):
    """Centered parts, the largest of them, and 1 over what the norm divides by."""
    if parts.ndim < 2:
        raise ValueError(f"parts has shape {parts.shape}, expected [P, ..., D]")
    whole = jnp.sum(parts, 0)
    if residual is not None:
        _check_sum(parts, whole, residual)
    centered = parts - jnp.mean(parts, -1, keepdims=True)
    if std is not None:
        s = hyper("std", std, parts.dtype, lambda s: s > 0, "positive")
        if s.shape not in ((), whole.shape[:-1]):
            raise ValueError(
                f"std has shape {s.shape}, expected () or {whole.shape[:-1]}"
            )
        s = jnp.broadcast_to(s, whole.shape[:-1])[..., None]
        return centered, None, 1 / s[None]
    unit = jnp.max(jnp.abs(centered), (0, -1), keepdims=True)
    unit = jax.lax.stop_gradient(jnp.where(unit > 0, unit, 1))
    u = jnp.sum(centered / unit, 0, keepdims=True)
    variance = jnp.mean(jnp.square(u), -1, keepdims=True)
    floor = _floor(epsilon, unit)
    return centered, unit, 1 / (unit * jnp.sqrt(variance + floor))


def _floor(epsilon, unit):
    epsilon = hyper("epsilon", epsilon, unit.dtype, lambda e: e >= 0, "at least 0")
    return jnp.maximum(epsilon / unit / unit, 1e-36)


def _check_sum(parts, whole, residual):
    residual = numerics.promote_to_float32(residual, "residual")
    if residual.shape != whole.shape:
        raise ValueError(
            f"residual has shape {residual.shape}, expected {whole.shape}, that of one "
            "part"
        )
    error = jnp.abs(whole - residual)
    room = 1e-3 * jnp.max(jnp.sum(jnp.abs(parts), 0), initial=0)
    if numerics.is_concrete(error) and jnp.max(error, initial=0) > room:
        raise ValueError(
            f"parts do not add up to residual: they differ by {error.max():.3g}, "
            f"expected at most {room:.3g}"
        )


def _read(hidden, dtype, kernel, scale, tokens, center):
    """Logits of normed hidden vectors [P, ..., D], or those of ``tokens``."""
    u = numerics.promote_to_float32(kernel, "kernel").astype(dtype)
    width = hidden.shape[-1]
    if u.ndim != 2 or u.shape[0] != width:
        raise ValueError(f"kernel has shape {u.shape}, expected [{width}, C]")
    if scale is not None:
        gamma = numerics.promote_to_float32(scale, "scale").astype(dtype)
        if gamma.shape != (width,):
            raise ValueError(f"scale has shape {gamma.shape}, expected ({width},)")
        u = gamma[:, None] * u
    if center:
        u = u - jnp.mean(u, 1, keepdims=True)
    if tokens is None:
        return jnp.matmul(hidden, u, precision="highest")
    y, known = numerics.check_labels(tokens, hidden.shape[1:-1], u.shape[1])
    logits = jnp.sum(hidden * u.T[y][None], -1)
    return jnp.where(known[None], logits, jnp.nan)
