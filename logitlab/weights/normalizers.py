"""Running estimate of a normalizer that importance weights divide by."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["meco_update"]


def meco_update(
    log_u: ArrayLike | None,
    f_noise: ArrayLike,
    logq_noise: ArrayLike,
    *,
    gamma: ArrayLike,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Tracked log-normalizer of ``losses.meco_loss`` after a batch of noise.

    .. math:: \log u' = \log\big((1 - \gamma) u + \gamma\, \mathrm{mean}\,
        e^{f - \log q}\big)

    Shapes: log_u [], f_noise [M], logq_noise [M] -> []

    Args:
      log_u: the last one; None at the first step, which is this batch's estimate.
      f_noise: log of the unnormalised model at the noise.
      logq_noise: log-density of the noise at the noise.
      gamma: weight of the new batch, in (0, 1]; 1 forgets.
      noise_mask: bool, the noise that takes part.

    Returns:
      Float32 (float64 for float64 ``f_noise``), without gradient; the last one again
      without noise.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes differ, or ``gamma`` is outside (0, 1].

    Numerics: absolute error below 1e-6 of the largest exponent; nothing overflows.

    Source: arXiv:2306.07485, form of the tracker inferred from the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import meco_update
    >>> meco_update(None, jnp.float32([1e4, 1e4]), jnp.zeros(2), gamma=0.1)
    Array(10000., dtype=float32)
    """
    fn = numerics.promote_to_float32(f_noise, "f_noise")
    gamma = hyper(
        "gamma", gamma, fn.dtype, lambda v: (v > 0) & (v <= 1), "a number in (0, 1]"
    )
    keep = numerics.check_mask(noise_mask, fn.shape, "noise_mask").reshape(-1)
    x = (fn - _like(logq_noise, fn, "logq_noise")).reshape(-1)
    count = jnp.maximum(keep.sum(), 1).astype(x.dtype)
    log_g = numerics.logsumexp(jnp.where(keep, x, -jnp.inf)) - jnp.log(count)
    if log_u is None:
        return jax.lax.stop_gradient(log_g)
    log_u = jnp.asarray(log_u, x.dtype)
    new = jnp.logaddexp(jnp.log1p(-gamma) + log_u, jnp.log(gamma) + log_g)
    return jax.lax.stop_gradient(jnp.where(keep.any(), new, log_u))


def _like(array, other, name):
    array = numerics.promote_to_float32(array, name)
    if array.shape != other.shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {other.shape}")
    return array.astype(other.dtype)
