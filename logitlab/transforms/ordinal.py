"""Thresholds and cumulative probabilities of ordinal models."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["cumulative_probs", "ordered_thresholds"]


def cumulative_probs(logits: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Class probabilities of cumulative logits.

    .. math:: p_k = \sigma(\eta_{k+1}) - \sigma(\eta_k)
        = \sigma(\eta_{k+1}) \, \sigma(-\eta_k) \, (1 - e^{\eta_k - \eta_{k+1}})

    They add up to 1. The class between two thresholds that cross has a *negative* one,
    which is how to find out.

    Shapes: logits [..., T] -> [..., T + 1]

    Args:
      logits: one for each of the K - 1 thresholds.
      axis: the threshold axis, the class axis of the result.

    Returns:
      float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point.
      ValueError: no such axis, or no thresholds.

    Numerics: relative error below 1e-5 for every class and its gradient.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import cumulative_probs
    >>> [f"{p:.4f}" for p in cumulative_probs(jnp.float32([-0.8, 0.6, 1.7]))]
    ['0.3100', '0.3356', '0.1999', '0.1545']
    """
    z = numerics.prepare_logits(logits, axis=axis)
    upper, lower = z[..., 1:], z[..., :-1]
    order = upper >= lower
    high, low = jnp.where(order, upper, lower), jnp.where(order, lower, upper)
    both = jnp.isinf(high) & (high == low)  # which have no distance
    gap = jnp.where(both, 0, high) - jnp.where(both, 0, low)
    inner = numerics.sigmoid(high) * numerics.sigmoid(-low) * -numerics.expm1(-gap)
    inner = jnp.where(order, inner, -inner)
    ends = numerics.sigmoid(z[..., :1]), numerics.sigmoid(-z[..., -1:])
    return jnp.moveaxis(jnp.concatenate([ends[0], inner, ends[1]], -1), -1, axis)


def ordered_thresholds(raw: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Increasing thresholds from unconstrained numbers.

    .. math:: \alpha_1 = r_1, \quad \alpha_k = \alpha_{k-1} + \log(1 + e^{r_k})

    With these the classes of ``proportional_odds_loss`` cannot have a probability of 0.

    Shapes: raw [..., T] -> [..., T]

    Raises:
      TypeError: ``raw`` is not floating point.
      ValueError: no such axis, or no thresholds.

    Source: inferred; any positive gap does.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import ordered_thresholds
    >>> print(ordered_thresholds(jnp.float32([-1, 0, 0])).round(4))
    [-1.     -0.3069  0.3863]
    """
    r = numerics.prepare_logits(raw, axis=axis, name="raw")
    gaps = jnp.concatenate([r[..., :1], jax.nn.softplus(r[..., 1:])], -1)
    return jnp.moveaxis(jnp.cumsum(gaps, -1), -1, axis)
