import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from logitlab import optim


def test_a_running_mean_that_starts_at_the_first():
    transform = optax.chain(optim.scale_by_compositional_momentum(0.25), optax.sgd(1.0))
    grads = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    state, mean = transform.init(grads[0]), grads[0]
    for g in grads:
        got, state = jax.jit(transform.update)(g, state)
        mean = 0.75 * mean + 0.25 * g
        np.testing.assert_allclose(got, -mean, rtol=1e-5)


def test_half_precision_and_no_momentum():
    transform = optim.scale_by_compositional_momentum(1.0)
    g = jnp.ones(2, "bfloat16")
    state = transform.init(g)
    assert state.mean.dtype == np.float32
    for scale in (1, 3):
        got, state = transform.update(scale * g, state)
        np.testing.assert_array_equal(got, scale * g)


def test_errors():
    for beta in (0, 1.5):
        with pytest.raises(ValueError, match=f"beta is {beta}, expected a number in"):
            optim.scale_by_compositional_momentum(beta)
