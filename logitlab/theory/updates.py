"""Updates of utilities by what was observed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["utility_update"]


def utility_update(
    utilities: ArrayLike,
    labels: ArrayLike,
    *,
    learning_rate: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Utilities after one gradient step of cross-entropy on themselves.

    .. math:: u + \eta\,(\mathrm{onehot}(y) - \mathrm{softmax}(u))

    Raises the chosen item and lowers all in proportion to how often they are chosen.

    Shapes: utilities [..., C], labels [...], where [..., C] -> [..., C]

    Returns:
      Utilities, float32 (float64 for float64), ``-inf`` where hidden.

    Raises:
      TypeError: ``utilities`` is not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label of C or more; under ``jit``, where
        values are unknown, such a label gives NaN.

    Numerics: the step has a relative error below 1e-5 for margins up to 80.

    Source: Utility-Probability Duality of Neural Networks, arXiv:2305.14859.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import utility_update
    >>> utility_update(jnp.float32([0, 0]), 0, learning_rate=1.0)
    Array([ 0.5, -0.5], dtype=float32)
    """
    u = numerics.prepare_logits(utilities, axis=axis, where=where)

    def cost(u):
        return numerics.label_nll(u, labels).sum()

    unknown = jnp.where(jnp.isnan(numerics.label_nll(u, labels)), jnp.nan, 0)
    step = jax.grad(cost)(u) + unknown[..., None]
    rate = hyper("learning_rate", learning_rate, u.dtype)
    return jnp.moveaxis(u - rate * step, -1, axis)
