"""Minimisers inside of an arm: any optimizer's steps, and L-BFGS until it is done."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def descended(
    slope: Callable[..., Any],
    start: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int | None = None,
    batches: Any = None,
    measure: Callable[[Any], Any] = lambda params: None,
) -> tuple[Any, Any]:
    """Where an optimizer ends, and what is measured on the way.

    Args:
      slope: parameters, and their batch if there are any -> gradient.
      start: parameters, a tree.
      optimizer: makes a step of a gradient.
      steps: how many there are; their batches say it too.
      batches: arrays with an entry for each step, or None.
      measure: parameters -> arrays, a tree.

    Returns:
      Parameters, and measures of the first ones and of those after each step, [steps +
      1, ...].

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from experiments.common.solvers import descended
    >>> slope = jax.grad(lambda x: x**2)
    >>> descended(slope, jnp.ones(()), optax.sgd(0.25), steps=2, measure=lambda x: x)[1]
    Array([1.  , 0.5 , 0.25], dtype=float32)
    """

    def step(state, batch):
        params, inner = state
        given = () if batch is None else (batch,)
        change, inner = optimizer.update(slope(params, *given), inner, params)
        params = optax.apply_updates(params, change)
        return (params, inner), measure(params)

    state = start, optimizer.init(start)
    (params, _), later = jax.lax.scan(step, state, batches, steps)
    return params, jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest]), measure(start), later
    )


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
