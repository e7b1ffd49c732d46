"""Skewness and kurtosis of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["weight_kurtosis", "weight_skewness"]


def weight_skewness(w: ArrayLike) -> jax.Array:
    r"""Skewness of weights: mean cube after standardizing, 0 if symmetric.

    .. math:: \frac1n \sum_i \Bigl(\frac{w_i - \bar w}{\sigma}\Bigr)^3

    with the deviation of a sample (n - 1). 0 for weights that are all equal, and for
    fewer than two.

    Raises:
      TypeError: ``w`` is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import weight_skewness
    >>> weight_skewness(jnp.float32([-1, 0, 1]))
    Array(0., dtype=float32)
    """
    return jnp.mean(_standardized(w) ** 3)


def weight_kurtosis(w: ArrayLike) -> jax.Array:
    r"""Kurtosis of weights: 3 for a Gaussian, 1.8 for a uniform distribution.

    Use it to see how well weights will be quantized: flat ones lose least.

    .. math:: \frac1n \sum_i \Bigl(\frac{w_i - \bar w}{\sigma}\Bigr)^4

    with the deviation of a sample (n - 1). 0 for weights that are all equal, and for
    fewer than two.

    Raises:
      TypeError: ``w`` is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import weight_kurtosis
    >>> weight_kurtosis(jnp.float32([-1, 0, 1]))
    Array(0.6666667, dtype=float32)
    """
    return jnp.mean(_standardized(w) ** 4)


def _standardized(w):
    """Weights without mean, over their deviation; zeros where they are all equal."""
    w = numerics.promote_to_float32(w, "params").ravel()
    if w.size < 2:
        return jnp.zeros_like(w)
    d = w - jnp.mean(w)
    square = jnp.sum(d * d) / (w.size - 1)
    some = square > 0
    return jnp.where(some, d / jnp.sqrt(jnp.where(some, square, 1)), 0)
