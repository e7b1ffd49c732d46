"""Example weights from the ratio of two densities."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["DensityClassifier", "density_ratio_weight"]


class DensityClassifier(NamedTuple):
    """Weights [D] and bias [] of a logistic regression on prompts."""

    kernel: jax.Array
    bias: jax.Array


def density_ratio_weight(
    prob_desirable: ArrayLike,
    *,
    min_ratio: ArrayLike = 0.5,
    max_ratio: ArrayLike = 10.0,
) -> jax.Array:
    r"""Density ratio of desirable to other prompts: BCO's weights.

    .. math:: w = \mathrm{clip}\Bigl(\frac{p}{1 - p + 10^{-8}}, w_{min}, w_{max}\Bigr)

    Shapes: prob_desirable [...] -> [...]

    Args:
      prob_desirable: p, that a prompt has a desirable answer, from
        :func:`fit_density_classifier`.
      min_ratio: the smallest weight.
      max_ratio: the largest weight.

    Returns:
      Weights of undesirable answers, without gradient, float32 (float64 for float64
      probabilities).

    Raises:
      TypeError: ``prob_desirable`` is not floating point.
      ValueError: the bounds are not in order.

    Source: Jung et al. 2024, arXiv:2404.04656.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import density_ratio_weight
    >>> density_ratio_weight(jnp.float32([0.02, 0.75, 1]))
    Array([ 0.5,  3. , 10. ], dtype=float32)
    """
    p = jax.lax.stop_gradient(
        numerics.promote_to_float32(prob_desirable, "prob_desirable")
    )
    if not isinstance(max_ratio, jax.core.Tracer):
        in_order = lambda m: m <= np.asarray(max_ratio)  # noqa: E731
        check_range("min_ratio", min_ratio, in_order, f"at most {max_ratio}")
    low, high = (jnp.asarray(a, p.dtype) for a in (min_ratio, max_ratio))
    return jnp.clip(p / (1 - p + 1e-8), low, high)
