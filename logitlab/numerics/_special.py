"""Elementwise functions that keep their digits where the usual formulas cancel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


@jax.custom_jvp  # exact: the slope of jnp.expm1, itself and 1, rounds to 0 below -17
def expm1(x: jax.Array) -> jax.Array:
    """``exp(x) - 1``, whose slope ``exp(x)`` does not round to 0.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import expm1
    >>> jax.grad(expm1)(jnp.float32(-40))
    Array(4.248354e-18, dtype=float32)
    """
    return jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return expm1(x), jnp.exp(x) * dx


def exp_excess(x: jax.Array) -> jax.Array:
    """``exp(x) - 1 - x`` to the last digits, near 0 too, and as exact a slope.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import exp_excess
    >>> exp_excess(jnp.float32(1e-6))
    Array(5.0000016e-13, dtype=float32)
    """
    near = jnp.abs(x) < 1
    far = x > 50  # x and 1 are far below the last digit; and no inf - inf
    y = jnp.where(far, 0, x)
    away = jnp.where(far, jnp.exp(jnp.where(far, x, 50)), jnp.expm1(y) - y)
    return jnp.where(near, small_exp_excess(jnp.where(near, x, 0)), away)


def small_exp_excess(x: jax.Array) -> jax.Array:
    """``exp(x) - 1 - x`` for ``|x| < 1``, by its series.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import small_exp_excess
    >>> print(f"{small_exp_excess(jnp.float32(1e-3)):.4e}")
    5.0017e-07
    """
    terms = 17 if x.dtype == jnp.float64 else 10
    return x * x * polynomial(x, [1 / math.factorial(n + 2) for n in range(terms)])


def polynomial(x: jax.Array, coefficients: Sequence[ArrayLike]) -> jax.Array:
    """``sum(c * x**n)`` over the coefficients, the constant one first.

    Unlike ``jnp.polyval`` it needs no array of the coefficients, some of them traced.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics._special import polynomial
    >>> polynomial(jnp.float32(2), (1, 0, 3))
    Array(13., dtype=float32)
    """
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def small_expm1(x: jax.Array) -> jax.Array:
    """``exp(x) - 1`` for ``|x| < 1``, in less time than ``jnp.expm1`` takes.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import small_expm1
    >>> small_expm1(jnp.float32(1e-9))
    Array(1.e-09, dtype=float32)
    """
    return x + small_exp_excess(x)


def sigmoid(x: jax.Array) -> jax.Array:
    """Logistic function whose slope does not round to 0 where it is near 1.

    >>> import jax
    >>> from logitlab.numerics import sigmoid
    >>> jax.grad(sigmoid)(40.0)
    Array(4.248354e-18, dtype=float32, weak_type=True)
    """
    # Above 1/2 its slope p (1 - p) rounds, and that of the exponential does not.
    return jnp.where(x > 0, jnp.exp(-jax.nn.softplus(-x)), jax.nn.sigmoid(x))


def log1mexp(x: jax.Array) -> jax.Array:
    """``log(1 - exp(x))`` of negative numbers: the log of a complement.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import log1mexp
    >>> log1mexp(jnp.float32([-1e-30, -1, -40]))
    Array([-6.9077553e+01, -4.5867515e-01, -4.2483541e-18], dtype=float32)
    """
    near = x > -math.log(2)
    close = jnp.log(-jnp.expm1(jnp.where(near, x, -1)))
    return jnp.where(near, close, jnp.log1p(-jnp.exp(jnp.where(near, -1, x))))


def log_complement(x: jax.Array) -> jax.Array:
    """``log(1 - exp(x))`` of a log-probability.

    Exact up to -1.5e-36; what is above it counts as that (see :func:`uncertain`).

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics._special import log_complement
    >>> log_complement(jnp.float32([-1e-30, -1, -40]))
    Array([-6.9077553e+01, -4.5867515e-01, -4.2483541e-18], dtype=float32)
    """
    return log1mexp(uncertain(x))


def uncertain(logps: jax.Array) -> jax.Array:
    """Log-probabilities of at most -1.5e-36, so that ``1 - p`` has a logarithm.

    One above 0, which is none, has no slope. Of what is smaller, products would leave
    the range of float32.
    """
    x = jnp.where(logps > 0, 0, logps)
    return x - jax.lax.stop_gradient(jax.nn.relu(x + 2.0**-119))
