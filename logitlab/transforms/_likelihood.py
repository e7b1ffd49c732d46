"""Maximum likelihood of a few parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_BOUND = 1e3
_SEPARATED = 1e-3
_MAX_STEPS = 300


def minimize(
    loss: Callable[[Any], jax.Array], start: tuple[jax.Array, ...], count: jax.Array
) -> tuple[jax.Array, ...]:
    """Parameters by L-BFGS, whether they are at a bound, and the slope that is left.

    ``loss`` is a mean over ``count`` examples. Where these lose less than log 2 in all,
    each has a probability above one half, and larger parameters are better still.
    """
    import optax  # half a second to import, for fits alone

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)
    tol = 1e-9 if start[0].dtype == jnp.float64 else 1e-5

    def step(carry):
        parameters, state, _, _, k = carry
        value, grad = value_and_grad(parameters, state=state)
        updates, state = solver.update(
            grad, state, parameters, value=value, grad=grad, value_fn=loss
        )
        new = optax.apply_updates(parameters, updates)
        return (new, state, *measured(new, value_and_grad(new, state=state)), k + 1)

    def measured(parameters, value_and_grad):
        value, grad = value_and_grad
        slope = _largest(grad) / jnp.where(value <= 0, 1, value)
        separated = value * count <= _SEPARATED
        bound = (_largest(parameters) >= _BOUND) | separated
        return slope, bound

    def unfinished(carry):
        _, _, slope, bound, k = carry
        return (slope > tol) & ~bound & (k < _MAX_STEPS)

    at_start = measured(start, jax.value_and_grad(loss)(start))
    carry = (start, solver.init(start), *at_start, 0)
    found, _, slope, bound, _ = jax.lax.while_loop(unfinished, step, carry)
    nan = jnp.where(jnp.isnan(slope), jnp.nan, 0)
    return (*(a + nan for a in found), bound, slope)


def _largest(tree):
    return jnp.max(jnp.stack([jnp.max(jnp.abs(a)) for a in jax.tree.leaves(tree)]))
