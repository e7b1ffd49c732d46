"""Constrained bilevel problems, in a single loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range

__all__ = ["BilevelProblem", "LVHBAState", "lv_hba_init", "lv_hba_step"]


class BilevelProblem(NamedTuple):
    r"""Minimize F(x, y), y being a minimizer of f(x, .) under constraints.

    Attributes:
      upper: F, (x, y) -> a number.
      lower: f, (x, y) -> a number, convex in y.
      constraint: g, (x, y) -> [M], to be at most 0; or None.
      project: (x, y) -> (x, y), onto where both are feasible; the identity by default.
      project_lower: y -> y, onto the set of the lower problem; by default the identity.
      equality: g is to be 0, and its multipliers may be negative.
    """

    upper: Callable[[Any, Any], jax.Array]
    lower: Callable[[Any, Any], jax.Array]
    constraint: Callable[[Any, Any], jax.Array] | None = None
    project: Callable[[Any, Any], tuple[Any, Any]] = lambda x, y: (x, y)
    project_lower: Callable[[Any], Any] = lambda y: y
    equality: bool = False


class LVHBAState(NamedTuple):
    """State of :func:`lv_hba_step`.

    Attributes:
      step: steps so far.
      x: what the upper problem chooses, a pytree.
      y: what the lower problem answers, a pytree.
      theta: the answer's own minimizer, laid out as y.
      multipliers: of the constraints [M].
      z: their proximal center [M].
    """

    step: jax.Array
    x: Any
    y: Any
    theta: Any
    multipliers: jax.Array
    z: jax.Array


def lv_hba_init(x: Any, y: Any, problem: BilevelProblem) -> LVHBAState:
    """The state before the first step: multipliers of 0, from a feasible point.

    Args:
      x: a pytree, where the upper problem starts.
      y: a pytree, where the lower one does.
      problem: projects both first.
    """
    x, y = problem.project(*jax.tree.map(jnp.asarray, (x, y)))
    dtype = jnp.result_type(*jax.tree.leaves((x, y)))
    many = () if problem.constraint is None else jnp.shape(problem.constraint(x, y))
    if problem.constraint is not None and len(many) != 1:
        raise ValueError(f"the constraint has shape {many}, expected [M]")
    zeros = jnp.zeros(many or (0,), dtype)
    return LVHBAState(jnp.zeros((), jnp.int32), x, y, y, zeros, zeros)


def lv_hba_step(
    state: LVHBAState,
    problem: BilevelProblem,
    *,
    alpha: ArrayLike = 0.01,
    beta: ArrayLike = 0.02,
    eta: ArrayLike = 0.01,
    gamma1: ArrayLike = 10.0,
    gamma2: ArrayLike = 1.0,
    c: ArrayLike = 0.5,
    power: ArrayLike = 0.3,
    radius: ArrayLike = 1000.0,
) -> LVHBAState:
    r"""A step of LV-HBA: a bilevel problem without second derivatives or inner loops.

    Use it for weights of training examples, hyper-parameters and other choices whose
    effect is a trained model, under constraints on both.

    .. math:: v_\gamma(x, y, z) = \min_\theta \max_\lambda f(x, \theta) +
        \lambda^\top g(x, \theta) + \frac{\|\theta - y\|^2}{2 \gamma_1} -
        \frac{\|\lambda - z\|^2}{2 \gamma_2}

    takes the place of the lower problem's value: :math:`\theta` and :math:`\lambda`
    make a step of size :math:`\eta` towards its saddle, and x, y, z descend
    :math:`F / c_k + f - v_\gamma`, :math:`c_k = c \, (k + 1)^p`. The bias of a finite
    :math:`c_k` shrinks as it grows.

    Args:
      state: of :func:`lv_hba_init` or of the step before.
      problem: the functions.
      alpha: step size of x and y.
      beta: of z.
      eta: of the answer's minimizer and the multipliers.
      gamma1: :math:`\gamma_1`, positive.
      gamma2: :math:`\gamma_2`, positive; 10, as released, lets the multipliers swing
        and the method diverge.
      c: positive.
      power: p in (0, 1/2).
      radius: z stays within it.

    Returns:
      The next state, in the same dtypes.

    Raises:
      ValueError: a number is outside its range.

    Source: Constrained Bi-Level Optimization, LV-HBA, Yao et al. 2024,
      arXiv:2401.16164.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import BilevelProblem, lv_hba_init, lv_hba_step
    >>> problem = BilevelProblem(lambda x, y: (y - 1) ** 2, lambda x, y: (y - x) ** 2)
    >>> state = lv_hba_init(jnp.zeros(()), jnp.zeros(()), problem)
    >>> for _ in range(200):
    ...     state = lv_hba_step(state, problem, alpha=0.1, eta=0.1, c=1.0)
    >>> bool(abs(state.y - 1) < 0.05)
    True
    """
    positive = dict(
        alpha=alpha,
        beta=beta,
        eta=eta,
        gamma1=gamma1,
        gamma2=gamma2,
        c=c,
        radius=radius,
    )
    for name, value in positive.items():
        check_range(name, value, lambda v: v > 0, "positive")
    check_range("power", power, lambda p: (p > 0) & (p < 0.5), "in (0, 1/2)")
    x, y, theta, lam, z = state[1:]
    g = problem.constraint or (lambda x, y: jnp.zeros((0,), z.dtype))
    least = -jnp.asarray(radius, z.dtype) if problem.equality else 0

    def lagrangian(x, theta, lam):
        return problem.lower(x, theta) + jnp.vdot(lam, g(x, theta))

    slope = jax.grad(lagrangian, 1)(x, theta, lam)
    new_theta = jax.tree.map(
        lambda t, s, y: t - _like(eta, t) * (s + (t - y) / _like(gamma1, t)),
        *(theta, slope, y),
    )
    new_theta = problem.project_lower(new_theta)
    new_lam = lam + _like(eta, lam) * (g(x, theta) - (lam - z) / _like(gamma2, lam))
    new_lam = new_lam if problem.equality else jnp.maximum(new_lam, 0)

    grow = (state.step + 1) ** jnp.asarray(power, jnp.float32)
    upper = jax.grad(problem.upper, (0, 1))(x, y)
    lower = jax.grad(problem.lower, (0, 1))(x, y)
    value = jax.grad(lagrangian)(x, new_theta, new_lam)

    def moved(a, of_upper, of_lower, of_value):
        share = of_upper / (_like(c, a) * _like(grow, a))
        return a - _like(alpha, a) * (share + of_lower - of_value)

    pull = jax.tree.map(lambda y, t: (y - t) / _like(gamma1, y), y, new_theta)
    x = jax.tree.map(moved, x, upper[0], lower[0], value)
    y = jax.tree.map(moved, y, upper[1], lower[1], pull)
    x, y = problem.project(x, y)
    z = z + _like(beta, z) * (new_lam - z) / _like(gamma2, z)
    z = jnp.clip(z, least, jnp.asarray(radius, z.dtype))
    return LVHBAState(state.step + 1, x, y, new_theta, new_lam, z)


def _like(number, array):
    return jnp.asarray(number, array.dtype)
