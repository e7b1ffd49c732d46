"""Regression by cross-entropy over the bins or atoms of an interval."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.targets.bins import (
    _check_support,
    categorical_projection,
    hl_gauss_probs,
    two_hot_probs,
)

__all__ = ["c51_loss", "hl_gauss_loss", "two_hot_loss"]


def hl_gauss_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    vmin: ArrayLike,
    vmax: ArrayLike,
    num_bins: int | None = None,
    sigma_ratio: ArrayLike = 0.75,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against a Gaussian histogram, one value per example.

    Use it when you regress a number, say the value of a state, with a classifier.

    .. math:: \ell = -\sum_i q_i \log p_i, \quad q = \text{hl\_gauss\_probs}(t)

    Shapes: logits [..., C], target [...] -> [...]

    Args:
      logits: a score for each bin; there is no ``where``, since a range without one of
        its bins is another range. A bin at ``-inf`` costs ``inf`` if the target needs
        it.
      target: scalars, clipped to the range; they get no gradient.
      vmin: lower end of the range.
      vmax: upper end of the range.
      num_bins: the number of bins, if it should be checked: it is C.
      sigma_ratio: standard deviation of the Gaussian, in bin widths.
      axis: the class axis of ``logits``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``target`` is not floating point.
      ValueError: wrong shapes, an empty range, or ``sigma_ratio`` not positive.

    Numerics: relative error below 1e-5, value and gradient, given the histogram.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import hl_gauss_loss
    >>> hl_gauss_loss(jnp.zeros(4), 0.3, vmin=0.0, vmax=1.0)
    Array(1.3862944, dtype=float32)
    """
    z, t = _logits_and_target(logits, target, axis)
    bins = _class_count("num_bins", num_bins, z)
    q = hl_gauss_probs(t, vmin=vmin, vmax=vmax, num_bins=bins, sigma_ratio=sigma_ratio)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def two_hot_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    vmin: ArrayLike,
    vmax: ArrayLike,
    num_atoms: int | None = None,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against the two atoms around the target, one value per example.

    Use it when you regress a number by the mass on its two nearest atoms.

    .. math:: \ell = -\sum_i q_i \log p_i, \quad q = \text{two\_hot\_probs}(t)

    Shapes: logits [..., C], target [...] -> [...]

    Args:
      logits: a score for each atom; there is no ``where``, since a grid without one of
        its atoms is another grid. An atom at ``-inf`` costs ``inf`` if the target needs
        it.
      target: scalars, clipped to the range; they get no gradient.
      vmin: the first atom.
      vmax: the last atom.
      num_atoms: the number of atoms, if it should be checked: it is C.
      axis: the class axis of ``logits``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``target`` is not floating point.
      ValueError: wrong shapes, an empty range, or fewer than two atoms.

    Numerics: relative error below 1e-5, value and gradient, given the two weights.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import two_hot_loss
    >>> two_hot_loss(jnp.float32([40, 0]), 0.0, vmin=0.0, vmax=1.0)
    Array(4.248354e-18, dtype=float32)
    """
    z, t = _logits_and_target(logits, target, axis)
    atoms = _class_count("num_atoms", num_atoms, z)
    q = two_hot_probs(t, vmin=vmin, vmax=vmax, num_atoms=atoms)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def c51_loss(
    logits: ArrayLike,
    target_probs: ArrayLike,
    reward: ArrayLike,
    discount: ArrayLike,
    atoms: ArrayLike,
    *,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against the projected Bellman target, one value per example.

    Use it when you learn the distribution of the return (C51).

    .. math:: \ell = -\sum_i \hat q_i \log p_i, \quad
        \hat q = \text{projection of } (r + \gamma c_j, p'_j) \text{ on } c

    Shapes: logits [..., C], target_probs [..., C], reward [...], discount [...], atoms [C] -> [...]

    Args:
      logits: a score for each atom; an atom at ``-inf`` costs ``inf`` if the target
        needs it.
      target_probs: the distribution over the atoms at the next state; no gradient.
      reward: added to the atoms; no gradient.
      discount: multiplies the atoms, 0 at the end of an episode; may be a scalar.
      atoms: increasing.
      axis: the class axis of ``logits`` and ``target_probs``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or ``atoms`` does not increase.

    Numerics: relative error below 1e-5, value and gradient, given the projection.

    Source: Bellemare et al. 2017, arXiv:1707.06887.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import c51_loss
    >>> z, p, atoms = jnp.zeros(2), jnp.float32([0.5, 0.5]), jnp.float32([0, 1])
    >>> c51_loss(z, p, 0.1, 0.9, atoms)
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    z, r = _logits_and_target(logits, reward, axis, "reward")
    p = numerics.promote_to_float32(target_probs, "target_probs")
    if p.shape != jnp.shape(logits):
        raise ValueError(
            f"target_probs has shape {p.shape}, expected {jnp.shape(logits)}"
        )
    g = numerics.promote_to_float32(discount, "discount").astype(z.dtype)
    if g.shape not in ((), r.shape):
        raise ValueError(f"discount has shape {g.shape}, expected {r.shape} or ()")
    c = numerics.promote_to_float32(atoms, "atoms").astype(z.dtype)
    _check_support("atoms", c, z.shape[-1])
    g = jnp.broadcast_to(g, r.shape)[..., None]
    shifted = r[..., None] + g * c.reshape((1,) * r.ndim + (-1,))
    p = jnp.moveaxis(p, axis, -1).astype(z.dtype)
    q = categorical_projection(shifted, p, c)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def _logits_and_target(logits, target, axis, name="target"):
    z = numerics.prepare_logits(logits, axis=axis)
    t = numerics.promote_to_float32(target, name).astype(z.dtype)
    if t.shape != z.shape[:-1]:
        raise ValueError(f"{name} has shape {t.shape}, expected {z.shape[:-1]}")
    return z, t


def _class_count(name, count, z):
    if count not in (None, z.shape[-1]):
        raise ValueError(
            f"{name} is {count}, expected the number of classes, {z.shape[-1]}"
        )
    return z.shape[-1]
