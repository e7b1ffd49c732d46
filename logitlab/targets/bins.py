"""Scalars to distributions over bins and back: two-hot, HL-Gauss, C51."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_number, check_range, hyper

__all__ = [
    "categorical_projection",
    "categorical_value",
    "hl_gauss_probs",
    "two_hot_probs",
]


def hl_gauss_probs(
    target: ArrayLike,
    *,
    vmin: ArrayLike,
    vmax: ArrayLike,
    num_bins: int,
    sigma_ratio: ArrayLike = 0.75,
) -> jax.Array:
    r"""Histogram of a Gaussian around the target, cut off at the range's ends.

    .. math:: q_i = \frac{\Phi((e_{i+1} - t)/\sigma) - \Phi((e_i - t)/\sigma)}
        {\Phi((e_m - t)/\sigma) - \Phi((e_0 - t)/\sigma)}, \quad
        \sigma = \text{ratio} \cdot (v_{max} - v_{min}) / m

    with m uniform bins between the edges :math:`e_0 = v_{min}, \dots, e_m = v_{max}`.

    Shapes: target [...] -> [..., num_bins]

    Args:
      target: scalars; clipped to the range first, or the normaliser could vanish (the
        published listing does not clip).
      vmin: lower end of the range.
      vmax: upper end of the range.
      num_bins: how many bins, a Python int, since it is a shape.
      sigma_ratio: standard deviation of the Gaussian, in bin widths.

    Returns:
      A distribution over the bins, float32 (float64 for float64 targets).
      ``categorical_value`` of the bins' centres reads it back, with a bias to the
      middle near the two ends.

    Raises:
      TypeError: ``target`` is not floating point.
      ValueError: an empty range, no bins, or ``sigma_ratio`` not positive.

    Numerics: absolute error below 1e-6 of the largest bin (the position of a target is
      known to a rounding error of the range); far tails underflow to 0.

    Source: Farebrother et al. 2024, arXiv:2403.03950, after Imani and White 2018.

    >>> from logitlab.targets import hl_gauss_probs
    >>> q = hl_gauss_probs(0.0, vmin=-1.5, vmax=1.5, num_bins=3)
    >>> [f"{p:.4f}" for p in q]
    ['0.2407', '0.5186', '0.2407']
    """
    _check_range(vmin, vmax)
    _check_count("num_bins", num_bins, 1)
    t = numerics.promote_to_float32(target, "target")[..., None]
    positive = (lambda v: v > 0), "a number above 0"
    sigma_ratio = hyper("sigma_ratio", sigma_ratio, t.dtype, *positive)
    width = hyper("vmax", (vmax - vmin) / num_bins, t.dtype)  # type: ignore[operator]
    u = jnp.clip((t - hyper("vmin", vmin, t.dtype)) / width, 0, num_bins)
    shape = *u.shape[:-1], num_bins + 1
    edges = jax.lax.broadcasted_iota(u.dtype, shape, u.ndim - 1)
    x = (edges - u) / (sigma_ratio * jnp.sqrt(2.0).astype(u.dtype))
    # Twice the mass beyond each edge on its own side: no cancellation in the tails.
    tail = jax.lax.erfc(jnp.abs(x))
    low, high = tail[..., :-1], tail[..., 1:]
    mass = jnp.where(x[..., 1:] < 0, high - low, 2 - low - high)
    mass = jnp.where(x[..., :-1] > 0, low - high, mass)
    return mass / (2 - tail[..., :1] - tail[..., -1:])


def two_hot_probs(
    target: ArrayLike, *, vmin: ArrayLike, vmax: ArrayLike, num_atoms: int
) -> jax.Array:
    r"""Two-hot encoding: the target's mass on its two neighboring atoms.

    .. math:: q_i = \max(0, 1 - |t - c_i| / \delta), \quad
        \delta = (v_{max} - v_{min}) / (m - 1)

    with m uniform atoms c from :math:`v_{min}` to :math:`v_{max}`, both included, and
    t clipped to them; :math:`\sum_i q_i c_i = t`.

    Shapes: target [...] -> [..., num_atoms]

    Returns:
      A distribution over the atoms, float32 (float64 for float64 targets).

    Raises:
      TypeError: ``target`` is not floating point.
      ValueError: an empty range or fewer than two atoms.

    Numerics: error of a rounding of the range, in units of an atom's distance.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> from logitlab.targets import two_hot_probs
    >>> two_hot_probs(0.25, vmin=-1.0, vmax=1.0, num_atoms=3)
    Array([0.  , 0.75, 0.25], dtype=float32)
    """
    _check_range(vmin, vmax)
    _check_count("num_atoms", num_atoms, 2)
    t = numerics.promote_to_float32(target, "target")[..., None]
    span = vmax - vmin  # type: ignore[operator]  # flags cannot be subtracted
    width = hyper("vmax", span / (num_atoms - 1), t.dtype)
    u = jnp.clip((t - hyper("vmin", vmin, t.dtype)) / width, 0, num_atoms - 1)
    atoms = jax.lax.broadcasted_iota(u.dtype, (*u.shape[:-1], num_atoms), u.ndim - 1)
    return jnp.maximum(1 - jnp.abs(u - atoms), 0)


def categorical_projection(
    shifted_atoms: ArrayLike, probs: ArrayLike, atoms: ArrayLike
) -> jax.Array:
    r"""C51's projection of a distribution over moved atoms onto fixed ones.

    .. math:: \hat q_i = \sum_j p_j \max(0, 1 - |\mathrm{clip}(s_j) - c_i| / \delta)

    Mass outside the atoms goes to the ends; the mean is kept where nothing is clipped.
    Atoms need not be uniform: :math:`\delta` is the distance to the next atom on the
    side of :math:`s_j`.

    Shapes: shifted_atoms [..., M], probs [..., M], atoms [N] -> [..., N]

    Returns:
      A distribution over ``atoms``, float32 (float64 for float64 input).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or ``atoms`` does not increase.

    Numerics: relative error below 1e-5 of the largest entry.

    Source: Bellemare et al. 2017, arXiv:1707.06887; rlax.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import categorical_projection
    >>> s, p = jnp.float32([0.5, 3]), jnp.float32([0.6, 0.4])
    >>> categorical_projection(s, p, jnp.float32([0, 1, 2]))
    Array([0.3, 0.3, 0.4], dtype=float32)
    """
    s = numerics.promote_to_float32(shifted_atoms, "shifted_atoms")
    p = numerics.promote_to_float32(probs, "probs")
    c = numerics.promote_to_float32(atoms, "atoms")
    if s.ndim == 0 or s.shape != p.shape:
        raise ValueError(
            f"probs has shape {p.shape}, expected that of shifted_atoms, {s.shape}, "
            "with at least one axis"
        )
    _check_support("atoms", c)
    check_range("atoms", c, lambda c: np.diff(c) > 0, "increasing numbers")
    one = jnp.ones((1,), c.dtype)
    after = jnp.concatenate([jnp.diff(c), one])
    before = jnp.concatenate([one, jnp.diff(c)])
    rank = (1,) * (s.ndim - 1)
    c, after, before = (a.reshape(*rank, -1, 1) for a in (c, after, before))
    gap = jnp.clip(s, c[..., :1, 0], c[..., -1:, 0])[..., None, :] - c
    hat = 1 - jnp.where(gap >= 0, gap / after, -gap / before)
    return jnp.sum(p[..., None, :] * jnp.maximum(hat, 0), -1)


def categorical_value(
    logits: ArrayLike,
    support: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean of the distribution that logits put on the atoms of a support.

    Use it to read a value off the logits of ``losses.two_hot_loss``.

    .. math:: \sum_i \mathrm{softmax}(z)_i \, c_i

    Shapes: logits [..., C], support [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      support: atoms, or the centres of the bins.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the atoms that take part.

    Returns:
      Numbers in units of ``support``, float32 (float64 for float64 logits); 0 where
      every atom is hidden.

    Raises:
      TypeError: an argument is not floating point or ``where`` is not bool.
      ValueError: ``support`` does not have one entry per class.

    Numerics: relative error below 1e-5 of the mean absolute value, for margins up to
      80, its gradient too.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import categorical_value
    >>> categorical_value(jnp.float32([0, 0]), jnp.float32([-1, 3]))
    Array(1., dtype=float32)
    """
    log_p = numerics.log_softmax(
        numerics.prepare_logits(logits, axis=axis, where=where)
    )
    c = numerics.promote_to_float32(support, "support")
    _check_support("support", c, log_p.shape[-1])
    return jnp.sum(jnp.exp(log_p) * c.reshape((1,) * (log_p.ndim - 1) + (-1,)), -1)


def _check_count(name, value, least):
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}, expected an integer from {least} on")


def _check_range(vmin, vmax):
    check_number("vmin", vmin)
    if not isinstance(vmin, jax.core.Tracer):
        check_range("vmax", vmax, lambda v: v > vmin, f"a number above vmin, {vmin}")


def _check_support(name, c, classes=None):
    if c.ndim != 1 or c.size == 0 or (classes is not None and c.size != classes):
        expected = "one axis" if classes is None else f"({classes},)"
        raise ValueError(f"{name} has shape {c.shape}, expected {expected}")
