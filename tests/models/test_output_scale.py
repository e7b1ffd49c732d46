import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import models


def network(params, x, power=1):
    return jnp.tanh(x @ params) ** power


def test_scaled_and_centered():
    x, w = jnp.eye(3), jnp.float32([0.1, 0.2, 0.3])
    for alpha in (0.25, 16.0):
        scaled = models.output_scaled(network, alpha)
        np.testing.assert_allclose(scaled(w, x), alpha * np.tanh(w), 1e-6)
        squared = scaled(w, x, power=2)
        np.testing.assert_allclose(squared, alpha * np.tanh(w) ** 2, 1e-6)
        centered = models.output_scaled(network, alpha, start=w)
        assert (centered(w, x) == 0).all()
        slopes = [jax.jacobian(f)(2 * w, x) for f in (scaled, centered)]
        np.testing.assert_array_equal(*slopes)


def test_the_start_gets_no_gradient_and_alpha_may_be_traced():
    x, w = jnp.eye(2), jnp.float32([0.5, -0.5])

    def total(alpha, start):
        return models.output_scaled(network, alpha, start=start)(2 * w, x)[0]

    of_alpha, of_start = jax.grad(total, (0, 1))(2.0, w)
    np.testing.assert_allclose(of_alpha, np.tanh(1) - np.tanh(0.5), 1e-6)
    assert (of_start == 0).all()
    half = models.output_scaled(lambda w, x: x, np.float64(2))(w, x.astype("bfloat16"))
    assert half.dtype == jnp.bfloat16


def test_errors():
    with pytest.raises(ValueError, match="alpha is 0, expected positive"):
        models.output_scaled(network, 0)
