"""Logits in units of their own spread."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import power_of_two
from logitlab.numerics.arguments import hyper


def standardize_logits(
    logits: ArrayLike,
    *,
    axis: int = -1,
    eps: ArrayLike = 1e-7,
    ddof: int = 1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logits minus their mean, divided by their standard deviation.

    Use it before a distillation loss if teacher and student differ in scale.

    .. math:: Z_c = \frac{z_c - \bar z}{\epsilon + \sigma}, \quad
        \sigma^2 = \frac{1}{C - \text{ddof}} \sum_c (z_c - \bar z)^2

    Invariant to ``a * z + b`` for ``a > 0``, up to eps; no entry exceeds
    :math:`(C - 1)/\sqrt C`. The gradient flows through mean and deviation. Logits that
    are all equal come out as 0, without a gradient.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      eps: added to the deviation, not to the variance.
      ddof: 1 as the released code has it, 0 for the deviation of a population.
      where: bool, the classes that take part, in mean and deviation too.

    Returns:
      float32 (float64 for float64 logits), ``-inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, ``where`` does not broadcast, ``ddof`` is
        neither 0 nor 1, or ``eps`` is negative.

    Numerics: relative error below 1e-5 of the largest entry, whatever offset the logits
      have.

    Source: Logit Standardization in Knowledge Distillation, Sun et al. 2024,
      arXiv:2403.01427.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import standardize_logits
    >>> [f"{z:.4f}" for z in standardize_logits(jnp.float32([1, 0, -1]))]
    ['1.0000', '0.0000', '-1.0000']
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}, expected 0 or 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    eps = hyper("eps", eps, z.dtype, lambda e: e >= 0, "a number from 0 on")
    shown = z > -jnp.inf
    count = jnp.sum(shown, -1, keepdims=True).astype(z.dtype)
    scale = power_of_two(jnp.where(shown, z, 0))
    # Measured from the top, so that an offset is gone before anything is added up.
    top = jnp.max(z, -1, keepdims=True)
    d = jnp.where(shown, z / scale - jnp.where(shown, top, 0) / scale, 0)
    mean = jnp.sum(d, -1, keepdims=True) / jnp.maximum(count, 1)
    d = jnp.where(shown, d - mean, 0)
    total = jnp.sum(d * d, -1, keepdims=True)
    some = total > 0
    variance = jnp.where(some, total, 1) / jnp.maximum(count - ddof, 1)
    deviation = jnp.where(some, jnp.sqrt(variance), 1)
    z = jnp.where(some, d, 0) / (eps / scale + deviation)
    return jnp.moveaxis(jnp.where(shown, z, -jnp.inf), -1, axis)
