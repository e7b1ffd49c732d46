"""Learning unnormalised densities from samples: NCE and the MECO surrogate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper
from logitlab.weights.normalizers import _like

__all__ = ["meco_loss", "nce_loss"]


def nce_loss(
    f_data: ArrayLike,
    f_noise: ArrayLike,
    logq_data: ArrayLike,
    logq_noise: ArrayLike,
    *,
    log_z: ArrayLike,
    nu: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Noise-contrastive estimation: one number for a set of data and noise.

    Use it when an unnormalized density is learned against noise.

    .. math:: \mathrm{mean}_{data}\, \mathrm{softplus}(-G) +
        \nu\, \mathrm{mean}_{noise}\, \mathrm{softplus}(G), \quad
        G = f - \log Z - \log q - \log \nu

    Shapes: f_data [N], f_noise [M], logq_data [N], logq_noise [M] -> []

    Args:
      f_data: log of the unnormalised model at the data.
      f_noise: the same at the noise.
      logq_data: log-density of the noise at the data.
      logq_noise: the same at the noise.
      log_z: the log-normaliser, a scalar to be learned.
      nu: noise samples for each datum, above 0.
      mask: bool, the data that take part.
      noise_mask: bool, the noise that takes part.

    Returns:
      Nats, float32 (float64 for float64 ``f_data``); 0 without data or without noise.

    Raises:
      TypeError: an argument is not floating point, or a mask is not bool.
      ValueError: the shapes differ, or ``nu`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for G up to 80.

    Source: Gutmann and Hyvarinen 2010; the baseline of arXiv:2306.07485.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import nce_loss
    >>> f, logq = jnp.zeros(2), jnp.zeros(2)
    >>> nce_loss(f, f, logq, logq, log_z=0.0)
    Array(1.3862944, dtype=float32)
    """
    f, fn = (
        numerics.promote_to_float32(f_data, "f_data"),
        numerics.promote_to_float32(f_noise, "f_noise"),
    )
    nu = hyper("nu", nu, f.dtype, lambda v: v > 0, "a number above 0")
    lq = _like(logq_data, f, "logq_data")
    lqn = _like(logq_noise, fn, "logq_noise")
    offset = hyper("log_z", log_z, f.dtype) + jnp.log(nu)
    if offset.shape != ():
        raise ValueError(f"log_z has shape {offset.shape}, expected ()")
    keep, keep_noise = _masks(mask, f, noise_mask, fn)
    data = jnp.where(keep, f, 0) - jnp.where(keep, lq, 0) - offset
    noise = jnp.where(keep_noise, fn, 0) - jnp.where(keep_noise, lqn, 0) - offset
    data = numerics.masked_mean(jax.nn.softplus(-data), keep)
    noise = numerics.masked_mean(jax.nn.softplus(noise), keep_noise)
    return jnp.where(keep.any() & keep_noise.any(), data + nu * noise, 0)


def meco_loss(
    f_data: ArrayLike,
    f_noise: ArrayLike,
    logq_noise: ArrayLike,
    log_u: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""MECO surrogate: its gradient estimates that of the negative log-likelihood.

    Use it when an unnormalized density is learned by maximum likelihood.

    .. math:: -\mathrm{mean}_{data} f + \mathrm{mean}_{noise}\, w f, \quad
        w = e^{f - \log q - \log u} \text{ without gradient}

    Its value means nothing. Update ``log_u`` first, with ``meco_update``.

    Shapes: f_data [N], f_noise [M], logq_noise [M], log_u [] -> []

    Args:
      f_data: log of the unnormalised model at the data.
      f_noise: the same at the noise.
      logq_noise: log-density of the noise at the noise.
      log_u: the tracked log-normaliser; no gradient.
      mask: bool, the data that take part.
      noise_mask: bool, the noise that takes part.

    Returns:
      Float32 (float64 for float64 ``f_data``); 0 without data or without noise. Where a
      weight is beyond the largest number, so is the value, and slopes stop there.

    Raises:
      TypeError: an argument is not floating point, or a mask is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5. The variance grows like the chi-square
      divergence of model and noise: choose broad noise.

    Source: arXiv:2306.07485, form of the tracker inferred from the abstract.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.losses import meco_loss
    >>> f = jnp.float32([1, 3])
    >>> jax.grad(meco_loss, 1)(f, jnp.zeros(2), jnp.zeros(2), 0.0)
    Array([0.5, 0.5], dtype=float32)
    """
    f, fn = (
        numerics.promote_to_float32(f_data, "f_data"),
        numerics.promote_to_float32(f_noise, "f_noise"),
    )
    lq = _like(logq_noise, fn, "logq_noise")
    u = jnp.asarray(log_u, fn.dtype)
    if u.shape != ():
        raise ValueError(f"log_u has shape {u.shape}, expected ()")
    keep, keep_noise = _masks(mask, f, noise_mask, fn)
    fn = jnp.where(keep_noise, fn, 0)
    log_w = jnp.where(keep_noise, fn - jnp.where(keep_noise, lq, 0) - u, -jnp.inf)
    log_w = jax.lax.stop_gradient(log_w)
    top = jnp.maximum(jnp.max(log_w, initial=-jnp.inf), jnp.finfo(fn.dtype).min)
    share = jnp.exp(log_w - top)
    noise = numerics.masked_mean(jnp.where(share == 0, 0, share * fn), keep_noise)
    # Where the weights are no numbers any more, the value is infinite and the slope
    # stops at the largest number.
    scale = jnp.minimum(jnp.exp(top), jnp.finfo(fn.dtype).max)
    beyond = (jnp.exp(top) == jnp.inf) & (noise != 0)
    limit = jnp.where(beyond, jnp.sign(noise) * jnp.inf, 0)
    noise = scale * noise + jax.lax.stop_gradient(limit)
    total = noise - numerics.masked_mean(f, keep)
    return jnp.where(keep.any() & keep_noise.any(), total, 0)


def _masks(mask, data, noise_mask, noise):
    noise_mask = numerics.check_mask(noise_mask, noise.shape, "noise_mask")
    return numerics.check_mask(mask, data.shape), noise_mask
