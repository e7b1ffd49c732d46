"""Running means of gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range

__all__ = ["CompositionalMomentumState", "scale_by_compositional_momentum"]


class CompositionalMomentumState(NamedTuple):
    """State of :func:`scale_by_compositional_momentum`.

    Attributes:
      count: updates so far.
      mean: of the gradients, laid out as the params, at least float32.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    mean: Any


def scale_by_compositional_momentum(
    beta: ArrayLike = 0.1,
) -> optax.GradientTransformation:
    r"""Running mean of gradients that starts at the first of them (MECO).

    Use it for gradients of ``losses.meco_loss`` and of other compositions, which are
    biased by noise in an inner mean.

    .. math:: v_t = (1 - \beta) v_{t-1} + \beta g_t, \qquad v_1 = g_1

    Goes before the learning rate. Needs no ``params``; dtypes survive, the mean is kept
    in float32.

    Args:
      beta: in (0, 1], the weight of what is new; 1 is no momentum.

    Raises:
      ValueError: ``beta`` is outside (0, 1].

    Source: Learning Unnormalized Statistical Models via Compositional Optimization,
      ICML 2023, arXiv:2306.07485; inferred from the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import scale_by_compositional_momentum
    >>> transform, g = scale_by_compositional_momentum(0.25), jnp.float32([4])
    >>> _, state = transform.update(g, transform.init(g))
    >>> transform.update(0 * g, state)[0]
    Array([3.], dtype=float32)
    """
    check_range("beta", beta, lambda b: (b > 0) & (b <= 1), "a number in (0, 1]")

    def wide(g):
        return jnp.asarray(g).astype(jnp.promote_types(jnp.result_type(g), jnp.float32))

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros_like(wide(p)), params)
        return CompositionalMomentumState(jnp.zeros((), jnp.int32), zeros)

    def update(updates, state, params=None):
        del params

        def mix(g, mean):
            g = wide(g).astype(mean.dtype)
            share = jnp.where(state.count == 0, 1, jnp.asarray(beta, mean.dtype))
            return mean + share * (g - mean)

        mean = jax.tree.map(mix, updates, state.mean)
        out = jax.tree.map(lambda m, g: m.astype(g.dtype), mean, updates)
        return out, CompositionalMomentumState(state.count + 1, mean)

    return optax.GradientTransformation(init, update)
