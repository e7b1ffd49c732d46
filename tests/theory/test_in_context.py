import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import theory
from logitlab.theory import in_context

calls = functions(in_context)


def test_it_is_one_step_of_gradient_descent(x64):
    rng = np.random.default_rng(0)
    x, y, q = (
        rng.normal(size=(4, 6, 3)),
        rng.normal(size=(4, 6)),
        rng.normal(size=(4, 3)),
    )

    def errors(w, x, y):
        return ((x @ w - y) ** 2).sum() / 2

    steps = -0.1 * jax.vmap(jax.grad(errors), (None, 0, 0))(np.zeros(3), x, y)
    got = calls.linear_attention_predict(x, y, q, 0.1 * np.eye(3))
    np.testing.assert_allclose(got, (steps * q).sum(-1), rtol=1e-12)
    one = calls.linear_attention_predict(x[0], y[0], q[0], 0.1 * np.eye(3))
    np.testing.assert_allclose(one, got[0], rtol=1e-12)


def test_the_best_step(x64):
    eta = theory.optimal_one_step_eta(20, 5, 0.5)
    np.testing.assert_allclose(eta, 1 / 26.5, rtol=1e-12)
    best = theory.one_step_risk(20, 5, 0.5)
    np.testing.assert_allclose(best, 0.5 + 5 * 6.5 / 26.5, rtol=1e-12)
    slope = jax.grad(lambda e: theory.one_step_risk(20, 5, 0.5, eta=e))(eta)
    np.testing.assert_allclose(slope, 0, atol=1e-10)


def test_the_risk_is_that_of_drawn_tasks():
    rng, eta = np.random.default_rng(0), 0.03
    w, x = rng.normal(size=(20_000, 5)), rng.normal(size=(20_000, 11, 5))
    y = np.einsum("bnd,bd->bn", x, w) + rng.normal(size=(20_000, 11)) * 0.5**0.5
    got = np.einsum("bd,bn,bnd->b", x[:, -1], y[:, :-1], x[:, :-1]) * eta
    errors = (got - y[:, -1]) ** 2
    want = theory.one_step_risk(10, 5, 0.5, eta=eta)
    assert abs(errors.mean() - want) < 4 * errors.std() / 20_000**0.5


def test_dtypes_and_bad_input():
    assert theory.optimal_one_step_eta(2, 3, jnp.bfloat16(1)).dtype == jnp.float32
    x, y, q = np.ones((2, 3), "f4"), np.ones(2, "f4"), np.ones(3, "f4")
    predict = theory.linear_attention_predict
    with pytest.raises(ValueError, match=r"y has shape \(3,\), expected \(2,\)"):
        predict(x, q, q, np.eye(3, dtype="f4"))
    with pytest.raises(
        ValueError, match=r"gamma has shape \(2, 2\), expected \(3, 3\)"
    ):
        predict(x, y, q, np.eye(2, dtype="f4"))
    with pytest.raises(ValueError, match=r"x has shape \(3,\), expected"):
        predict(q, y, q, np.eye(3, dtype="f4"))
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        theory.optimal_one_step_eta(0, 1, 0.0)
    with pytest.raises(ValueError, match="sigma2 is -1, expected at least 0"):
        theory.one_step_risk(1, 1, -1)
