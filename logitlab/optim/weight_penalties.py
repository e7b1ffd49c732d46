"""Penalties on the distribution of weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.metrics.weights import _standardized
from logitlab.numerics.arguments import weighted

__all__ = ["weight_distribution_penalty"]


def weight_distribution_penalty(
    params: Any,
    *,
    kurtosis_target: ArrayLike = 1.8,
    kurt_rate: ArrayLike = 0.015,
    skew_rate: ArrayLike = 1.0,
    mask: Any = None,
) -> jax.Array:
    r"""Weight distribution regularization (WDR), for weights easy to quantize.

    Use it beside the loss before quantizing to 2 to 4 bits.

    .. math:: \frac1L \sum_l \bigl[ a (\mathrm{Kurt}_l - 1.8)^2
        + b \, \mathrm{Skew}_l^2 \bigr]

    over the L arrays of ``params``. Scale-free: its gradient is orthogonal to the
    weights and to constants.

    Args:
      params: a pytree of weights. Arrays of fewer than two elements are skipped; an
        array of equal weights counts, and costs nothing.
      kurtosis_target: 1.8, that of a uniform distribution.
      kurt_rate: a; 0.015 in the released code, 1 in the paper.
      skew_rate: b; 1 in both.
      mask: a pytree of bools like ``params``, the arrays that count; the released code
        leaves the first layer out. Biases and scales of norms are to be left out too.

    Returns:
      One number, 0 without any array.

    Raises:
      TypeError: an array that counts is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import weight_distribution_penalty
    >>> w = {"kernel": jnp.float32([[-1, 0, 1]]), "bias": jnp.zeros(1)}
    >>> weight_distribution_penalty(w, kurt_rate=1.0).round(4)
    Array(1.2844, dtype=float32)
    """
    keep = jax.tree.map(lambda _: True, params) if mask is None else mask
    costs: list[Any] = []
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(keep), strict=True)
    for w, counts in pairs:
        if not counts or jnp.size(w) < 2:
            continue
        x = _standardized(w)
        constant = jnp.all(x == 0)
        off = jnp.where(
            constant, 0, jnp.mean(x**4) - jnp.asarray(kurtosis_target, x.dtype)
        )
        cost = weighted(kurt_rate, off**2) + weighted(skew_rate, jnp.mean(x**3) ** 2)
        costs.append(cost)
    return sum(costs) / len(costs) if costs else jnp.zeros(())
