"""Amplification of probabilities towards 0 and 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["amplify"]


def amplify(probs: ArrayLike, *, scale: ArrayLike = 73.0) -> jax.Array:
    r"""Pushes probabilities towards 0 and 1 by a steep sigmoid.

    .. math:: q = \sigma(L\,(p - 1/2))

    Shapes: probs [...] -> [...]

    Returns:
      Numbers between 0 and 1, float32 (float64 for float64 input).

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: ``scale`` is not positive.

    Source: AnyLoss, Han et al. 2024, arXiv:2405.14745, with L = 73.

    >>> from logitlab.transforms import amplify
    >>> print(f"{amplify(0.6, scale=10.0):.4f}")
    0.7311
    """
    p = numerics.promote_to_float32(probs, "probs")
    scale = hyper("scale", scale, p.dtype, lambda v: v > 0, "a number above 0")
    # The exponential of its log is a sigmoid whose slope does not round to 0.
    return jnp.exp(jax.nn.log_sigmoid(scale * (p - 0.5)))
