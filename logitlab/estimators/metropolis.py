"""Sampling with a score alone: Metropolis steps whose density is a line integral."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_same_shape, per_row

__all__ = ["MetropolisStep", "score_mh_step"]


class MetropolisStep(NamedTuple):
    """What a step leaves, and the next one starts from.

    Attributes:
      x: the chains' states, [..., D].
      accepted: bool, the chains that moved, [...].
    """

    x: jax.Array
    accepted: jax.Array


def score_mh_step(
    key: jax.Array,
    x: ArrayLike,
    score_fn: Callable[[jax.Array], jax.Array],
    *,
    step: ArrayLike,
    n_points: int = 10,
) -> MetropolisStep:
    r"""A Metropolis step of every chain, with a score in place of a density.

    .. math:: x' = x + \sigma \epsilon, \quad \log \frac{p(x')}{p(x)} \approx \frac1n
        \sum_{i=1}^n s\bigl(x + \tfrac{i - 1/2}{n} (x' - x)\bigr)^\top (x' - x)

    A proposal is accepted with the lesser of 1 and that ratio, and never if it is NaN.
    Going back has minus the same sum, so that a score which is the gradient of a
    log-density is sampled without bias but for the rule's error. Modes farther apart
    than some steps do not mix. The number of points is inferred.

    Args:
      key: of ``jax.random``.
      x: states of the chains, [..., D].
      score_fn: rows [..., D] -> scores [..., D], such as ``dae_score`` of a model.
      step: deviation of a proposal, positive: one number, or one per chain [...]; for a
        denoising autoencoder about its noise level.
      n_points: of the midpoint rule, static.

    Returns:
      States in float32 (float64 for float64), and which chains moved.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``step`` is not positive, ``n_points`` below 1, or scores have another
        shape than the states.

    Source: Alain and Bengio 2014, arXiv:1211.4246.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import score_mh_step
    >>> def body(x, key):
    ...     return score_mh_step(key, x, lambda x: -x, step=2.0).x, None
    >>> keys = jax.random.split(jax.random.key(0), 50)
    >>> x, _ = jax.lax.scan(body, jnp.zeros((1000, 1)), keys)
    >>> print(f"{x.std():.1f}")
    1.0
    """
    x = numerics.promote_to_float32(x, "x")
    if x.ndim == 0:
        raise ValueError("x has shape (), expected (..., D)")
    step = per_row("step", step, x, lambda s: s > 0, "positive")
    check_count("n_points", n_points)
    walk_key, accept_key = jax.random.split(key)
    move = step * jax.random.normal(walk_key, x.shape, x.dtype)

    def slope(share):
        scores = score_fn(x + share * move)
        check_same_shape("the result of score_fn", scores, "x", x.shape)
        return (scores * move).sum(-1)

    shares = (jnp.arange(n_points, dtype=x.dtype) + 0.5) / n_points
    gain = jax.vmap(slope)(shares).mean(0)
    draw = jax.random.uniform(accept_key, gain.shape, x.dtype)
    accepted = jnp.log(draw) < gain
    return MetropolisStep(jnp.where(accepted[..., None], x + move, x), accepted)
