"""A classifier of two samples, fitted for density ratios."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference.unpaired import _desirable
from logitlab.numerics import arguments
from logitlab.weights.density_ratio import DensityClassifier

__all__ = ["fit_density_classifier"]


def fit_density_classifier(
    features: ArrayLike,
    is_desirable: ArrayLike,
    *,
    l2: ArrayLike = 1.0,
    steps: int = 30,
) -> DensityClassifier:
    r"""Class-balanced logistic regression of desirable against other prompts.

    Use it before ``weights.density_ratio_weight``, for BCO on shifted prompts.

    .. math:: \min_{w, b} \tfrac{\lambda}{2} \|w\|^2 + \sum_i \frac{n}{2 n_{y_i}}\,
        \mathrm{sp}(-s_i (w^\top x_i + b)), \quad s_i = \pm 1

    by Newton's method with halved steps. The probability of a prompt is
    ``jax.nn.sigmoid(features @ kernel + bias)``.

    Shapes: features [N, D], is_desirable [N] -> [D], []

    Args:
      features: embeddings of prompts.
      is_desirable: bool.
      l2: lambda, positive.
      steps: of Newton's method; ten are usually plenty.

    Returns:
      A :class:`DensityClassifier`, float32 (float64 for float64 features).

    Raises:
      TypeError: ``features`` is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes disagree, or ``l2`` is not positive.

    Source: Jung et al. 2024, arXiv:2404.04656; the penalty is scikit-learn's default.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import fit_density_classifier
    >>> x = jnp.float32([[-1], [1]])
    >>> fit_density_classifier(x, jnp.array([False, True]))[0].round(3)
    Array([0.675], dtype=float32)
    """
    arguments.positive(l2=l2)
    x = numerics.promote_to_float32(features, "features")
    if x.ndim != 2:
        raise ValueError(f"features has shape {x.shape}, expected (N, D)")
    good = _desirable(is_desirable, x.shape[:1])
    share = jnp.where(good, good.sum(), (~good).sum()).astype(x.dtype)
    weight = x.shape[0] / 2 / jnp.maximum(share, 1)
    sign = jnp.where(good, 1, -1).astype(x.dtype)
    x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
    ridge = jnp.full(x.shape[1], l2, x.dtype).at[-1].set(0)

    def cost(theta):
        logistic = weight * jax.nn.softplus(-sign * (x @ theta))
        return logistic.sum() + (ridge * theta**2).sum() / 2

    def step(_, theta):
        slope = jax.grad(cost)(theta)
        p = jax.nn.sigmoid(x @ theta)
        # Without a bias that all prompts agree on, its curvature would be 0.
        tiny = jnp.finfo(x.dtype).eps * x.shape[0]
        bend = x.T @ ((weight * p * (1 - p))[:, None] * x) + jnp.diag(ridge + tiny)
        move = jnp.linalg.solve(bend, slope)
        tries = theta[None] - jnp.outer(0.5 ** jnp.arange(12, dtype=x.dtype), move)
        costs = jax.vmap(cost)(tries)
        best = jnp.argmin(costs)
        return jnp.where(costs[best] < cost(theta), tries[best], theta)

    theta = jax.lax.fori_loop(0, steps, step, jnp.zeros(x.shape[1], x.dtype))
    return DensityClassifier(theta[:-1], theta[-1])
