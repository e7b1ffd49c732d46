"""Few-step samplers of denoising models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["edm_sigma", "few_step_sampler"]


def edm_sigma(
    u: ArrayLike,
    *,
    sigma_min: ArrayLike = 0.002,
    sigma_max: ArrayLike = 80.0,
    rho: ArrayLike = 7.0,
) -> jax.Array:
    r"""Noise levels of EDM's ramp, from the smallest at 0 to the largest at 1.

    .. math:: \sigma = \bigl(\sigma_{max}^{1/\rho} + (1 - u)
        (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\bigr)^\rho

    SiD draws u uniformly from [0, 0.8].

    Shapes: u [...] -> [...]

    Raises:
      TypeError: ``u`` is not floating point.

    Source: Karras et al. 2022, arXiv:2206.00364; SiD, arXiv:2404.04057.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.samplers import edm_sigma
    >>> print(edm_sigma(jnp.float32([0, 1])).round(3))
    [2.e-03 8.e+01]
    """
    u = numerics.promote_to_float32(u, "u")
    top, bottom, rho = (jnp.asarray(x, u.dtype) for x in (sigma_max, sigma_min, rho))
    top, bottom = top ** (1 / rho), bottom ** (1 / rho)
    return (top + (1 - u) * (bottom - top)) ** rho


def few_step_sampler(
    apply_fn: Callable[[jax.Array, jax.Array], jax.Array],
    key: jax.Array,
    steps: int,
    *,
    shape: tuple[int, ...],
    add_noise: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    t_init: float = 625.0,
    match: Literal["uniform", "final"] = "uniform",
    backprop_steps: int = 1,
    dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
    r"""Samples of a generator of a few steps.

    .. math:: x^{i+1} = G(\text{noise}(x^i, \epsilon_i, t_i), t_i), \quad
        t_i = t_{init} (1 - i / K), \quad x^0 = 0

    Args:
      apply_fn: G, (noisy x, t) -> x.
      key: of ``jax.random``, for the noise and for which step is taken.
      steps: K, static.
      shape: of the samples, [B, ...].
      add_noise: (x, standard normal noise, t) -> noisy x.
      t_init: the first time.
      match: ``"uniform"`` returns the output of a step drawn at random, one for all
        samples, so that the mixture of all steps is matched to the data; ``"final"``
        that of the last.
      backprop_steps: how many steps, up to the one that is returned, the gradient goes
        through; 1 stops it at that step's input [inferred; released code keeps all].
      dtype: of the samples.

    Returns:
      Samples of the given shape.

    Raises:
      ValueError: fewer than one step, or an unknown ``match``.

    Source: Few-Step SiD, Zhou et al. 2025, arXiv:2505.12674, from its abstract and the
      released code of the one-step method.

    >>> import jax
    >>> from logitlab.models.samplers import few_step_sampler
    >>> sample = few_step_sampler(
    ...     lambda x, t: x / 2,
    ...     jax.random.key(0),
    ...     4,
    ...     shape=(2, 3),
    ...     add_noise=lambda x, noise, t: x + t * noise,
    ... )
    >>> sample.shape
    (2, 3)
    """
    if steps < 1 or backprop_steps < 1:
        raise ValueError(
            f"steps is {steps}, backprop_steps {backprop_steps}, expected at least 1"
        )
    if match not in ("uniform", "final"):
        raise ValueError(f"match is {match!r}, expected 'uniform' or 'final'")
    draw, *keys = jax.random.split(key, steps + 1)
    last = steps - 1
    if match == "uniform":
        last = jax.random.randint(draw, (), 0, steps)
    x = sample = jnp.zeros(shape, dtype)
    for i, noise_key in enumerate(keys):
        t = jnp.asarray(t_init * (1 - i / steps), dtype)
        constant = i <= last - backprop_steps + 1  # its input comes from before
        x = jnp.where(constant, jax.lax.stop_gradient(x), x)
        x = apply_fn(add_noise(x, jax.random.normal(noise_key, shape, dtype), t), t)
        sample = jnp.where(i == last, x, sample)
    return sample
