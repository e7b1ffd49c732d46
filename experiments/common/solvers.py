"""Minimisers of smooth functions without noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def minimised(
    objective: Callable[[Any], jax.Array],
    start: Any,
    *,
    steps: int,
    tolerance: float,
) -> Any:
    """Where L-BFGS ends, a tree like ``start``.

    Args:
      objective: parameters -> one number.
      start: parameters, a tree.
      steps: the most there are.
      tolerance: largest slope at which to stop.
    """
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def update(carry):
        params, state, _, count = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        params = optax.apply_updates(params, updates)
        return params, state, optax.tree.norm(grad, ord=jnp.inf), count + 1

    def going(carry):
        return (carry[2] > tolerance) & (carry[3] < steps)

    dtype = jnp.result_type(*jax.tree.leaves(start))
    carry = start, solver.init(start), jnp.asarray(jnp.inf, dtype), 0
    return jax.lax.while_loop(going, update, carry)[0]
