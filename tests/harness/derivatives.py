"""Derivatives of a function, from one interpreted program."""

import jax
import jax.numpy as jnp
import numpy as np

from harness.interpreter import interpreted


def value_and_grad(loss, z, *args, **hyper):
    """Unreduced values, and the gradient of their sum in ``z``; all is traced."""

    @interpreted
    def run(z, args, hyper):
        values, pull = jax.vjp(lambda z: loss(z, *args, **hyper), z)
        return values, pull(jnp.ones_like(values))[0]

    return run(jnp.asarray(z), args, hyper)


def check_derivatives(function, x, *, order=2, step=1e-5, rtol=1e-5):
    """Against differences at ``x`` [float64], along random directions.

    Forward and reverse mode, and for order 2 all their pairs, of a random sum of all
    that ``function`` returns.
    """
    rng = np.random.default_rng(0)
    v, w = rng.normal(size=(2, *np.shape(x)))
    shapes = jax.tree.leaves(jax.eval_shape(function, x))
    weights = [rng.normal(size=a.shape) for a in shapes]

    def total(x):
        return sum(
            jnp.vdot(weight, a)
            for weight, a in zip(weights, jax.tree.leaves(function(x)), strict=True)
        )

    def forward(f, v):
        return lambda x: jax.jvp(f, (x,), (v,))[1]

    def reverse(f, v):
        return lambda x: jnp.vdot(jax.grad(f)(x), v)

    modes = forward, reverse

    @interpreted
    def run(x):
        return total(x), [m(total, w)(x) for m in modes]

    @interpreted
    def second(x):
        return [outer(inner(total, w), v)(x) for outer in modes for inner in modes]

    def difference(of, v):
        return (of(x + step * v) - of(x - step * v)) / (2 * step)

    def compare(got, want):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)

    x = np.asarray(x)
    compare(run(x)[1], difference(lambda x: run(x)[0], w))
    if order == 2:
        compare(second(x), difference(lambda x: run(x)[1][1], v))
