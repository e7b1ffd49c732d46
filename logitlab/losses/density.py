"""Learning unnormalised densities from samples: NCE and the MECO surrogate."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.rows import Row

__all__ = ["meco_surrogate", "meco_update", "nce_loss"]

NOT_LOSSES = ("meco_update",)

_SOURCE = (
    "Learning Unnormalized Statistical Models via Compositional Optimization, "
    "arXiv:2306.07485"
)


def nce_loss(
    f_data: ArrayLike,
    f_noise: ArrayLike,
    logq_data: ArrayLike,
    logq_noise: ArrayLike,
    *,
    log_z: ArrayLike,
    nu: float = 1.0,
    mask: ArrayLike | None = None,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Noise-contrastive estimation: one number for a set of data and noise.

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
      Nats, float32 (float64 for float64 ``f_data``).

    Raises:
      TypeError: an argument is not floating point, or a mask is not bool.
      ValueError: the shapes differ, or ``nu`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for G up to 80.

    Source: Gutmann and Hyvarinen 2010; the baseline of arXiv:2306.07485.

    >>> f, logq = jnp.zeros(2), jnp.zeros(2)
    >>> nce_loss(f, f, logq, logq, log_z=0.0)
    Array(1.3862944, dtype=float32)
    """
    _check("nu", nu, lambda v: v > 0, "a number above 0")
    f, fn = numerics.promote(f_data, "f_data"), numerics.promote(f_noise, "f_noise")
    lq = _like(logq_data, f, "logq_data")
    lqn = _like(logq_noise, fn, "logq_noise")
    offset = jnp.asarray(log_z, f.dtype) + jnp.log(jnp.asarray(nu, f.dtype))
    if offset.shape != ():
        raise ValueError(f"log_z has shape {offset.shape}, expected ()")
    data = jnp.logaddexp(0, -(_kept(f, mask) - _kept(lq, mask) - offset))
    noise = _kept(fn, noise_mask) - _kept(lqn, noise_mask) - offset
    noise = jnp.logaddexp(0, noise)
    data = numerics.masked_mean(data, mask)
    return data + nu * numerics.masked_mean(noise, noise_mask)


def meco_surrogate(
    f_data: ArrayLike,
    f_noise: ArrayLike,
    logq_noise: ArrayLike,
    log_u: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""A number whose gradient is MECO's estimate of the likelihood's.

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
      Float32 (float64 for float64 ``f_data``).

    Raises:
      TypeError: an argument is not floating point, or a mask is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5. The variance grows like the chi-square
      divergence of model and noise: choose broad noise.

    Source: arXiv:2306.07485, form of the tracker inferred from the abstract.

    >>> f = jnp.float32([1, 3])
    >>> jax.grad(meco_surrogate, 1)(f, jnp.zeros(2), jnp.zeros(2), 0.0)
    Array([0.5, 0.5], dtype=float32)
    """
    f, fn = numerics.promote(f_data, "f_data"), numerics.promote(f_noise, "f_noise")
    lq = _like(logq_noise, fn, "logq_noise")
    u = jnp.asarray(log_u, fn.dtype)
    if u.shape != ():
        raise ValueError(f"log_u has shape {u.shape}, expected ()")
    fn, lq = _kept(fn, noise_mask), _kept(lq, noise_mask)
    w = jax.lax.stop_gradient(jnp.exp(fn - lq - u))
    weighted = jnp.where(w == 0, 0, w * jnp.where(w == 0, 0, fn))
    # Divided before they are summed: data of the largest size have a mean, no sum.
    size = max(f.size, 1)
    data = size * numerics.masked_mean(f / size, mask)
    return numerics.masked_mean(weighted, noise_mask) - data


def meco_update(
    log_u: ArrayLike | None,
    f_noise: ArrayLike,
    logq_noise: ArrayLike,
    *,
    gamma: float,
    noise_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""The tracked log-normaliser after another batch of noise.

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
      Float32 (float64 for float64 ``f_noise``), without gradient.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes differ, or ``gamma`` is outside (0, 1].

    Numerics: absolute error below 1e-6 of the largest exponent; nothing overflows.

    Source: arXiv:2306.07485, form of the tracker inferred from the abstract.

    >>> meco_update(None, jnp.float32([1e4, 1e4]), jnp.zeros(2), gamma=0.1)
    Array(10000., dtype=float32)
    """
    _check("gamma", gamma, lambda v: (v > 0) & (v <= 1), "a number in (0, 1]")
    fn = numerics.promote(f_noise, "f_noise")
    x = (fn - _like(logq_noise, fn, "logq_noise")).reshape(-1)
    count = jnp.asarray(max(x.size, 1), x.dtype)
    if noise_mask is not None:
        keep = jnp.asarray(noise_mask).reshape(-1)
        x = jnp.where(keep, x, -jnp.inf)
        count = jnp.maximum(keep.sum(dtype=x.dtype), 1)
    log_g = numerics.logsumexp(x) - jnp.log(count)
    if log_u is None:
        return jax.lax.stop_gradient(log_g)
    gamma = jnp.asarray(gamma, x.dtype)
    old = jnp.log1p(-gamma) + jnp.asarray(log_u, x.dtype)
    return jax.lax.stop_gradient(jnp.logaddexp(old, jnp.log(gamma) + log_g))


def _kept(array, mask):
    """Zeros where the mask leaves a sample out: a NaN there would spoil the slopes."""
    if mask is None or jnp.shape(mask) != array.shape:  # masked_mean says what is wrong
        return array
    return jnp.where(jnp.asarray(mask), array, 0)


def _like(array, other, name):
    array = numerics.promote(array, name)
    if array.shape != other.shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {other.shape}")
    return array.astype(other.dtype)


def _check(name, value, ok, expected):
    fine = ok(value)  # traced if the value is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"{name} is {value}, expected {expected}")


def _samples(key, shape, dtype):
    data, noise = shape, (shape[0] + 1, *shape[1:])
    keys = jax.random.split(key, 4)
    return tuple(
        jax.random.normal(key, size, dtype)
        for key, size in zip(keys, (data, noise, data, noise), strict=True)
    )


def _noise_samples(key, shape, dtype):
    data, noise, _, logq = _samples(key, shape, dtype)
    return data, noise, logq, jnp.zeros((), dtype)


ROWS = (
    Row(
        nce_loss,
        "batch",
        _samples,
        "Gutmann and Hyvarinen 2010; " + _SOURCE,
        hyper={"log_z": 0.0},
        shift_invariant=False,
        convex=False,
        where=False,
        shape=(6,),
        note="logits are log-densities; takes mask and noise_mask",
    ),
    Row(
        meco_surrogate,
        "batch",
        _noise_samples,
        _SOURCE,
        shift_invariant=False,
        lower=None,
        where=False,
        shape=(6,),
        surrogate="the importance weights carry no gradient",
    ),
)
