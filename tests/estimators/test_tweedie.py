import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import estimators

eager = functions(estimators)
lgamma = jax.scipy.special.gammaln


def posterior(log_likelihood, points, y):
    """Of a prior that is even on the points, and the score of the noisy data at y."""
    logs = np.array([log_likelihood(y, x) for x in points], float)
    weights = np.exp(logs - logs.max())
    score = jax.grad(
        lambda y: jax.nn.logsumexp(jnp.stack([log_likelihood(y, x) for x in points]))
    )(y)
    return weights / weights.sum(), float(score)


def test_gaussian_is_the_posterior_mean(x64):
    points = np.array([1.0, 3.0])
    weights, score = posterior(lambda y, x: -((y - x) ** 2) / (2 * 0.7), points, 1.6)
    got = eager.tweedie_gaussian(np.array([1.6]), np.array([score]), variance=0.7)
    np.testing.assert_allclose(got, weights @ points, rtol=1e-12)


def test_gamma_is_one_over_the_mean_of_the_inverse(x64):
    """Of {1, 3} at shape 4 and y = 2: 1.9203, where the posterior mean is 2.4377."""
    points, zeta = np.array([1.0, 3.0]), 4.0

    def log_likelihood(y, x):
        return (zeta - 1) * jnp.log(y) - zeta * jnp.log(x) - zeta * y / x

    weights, score = posterior(log_likelihood, points, 2.0)
    got = eager.tweedie_gamma(np.array([2.0]), np.array([score]), shape=zeta)
    np.testing.assert_allclose(got, 1 / (weights @ (1 / points)), rtol=1e-12)
    np.testing.assert_allclose(got, 1.9203, atol=5e-5)
    np.testing.assert_allclose(weights @ points, 2.4377, atol=5e-5)


@pytest.mark.parametrize("zeta", [1.0, 0.01])
def test_poisson_is_about_the_geometric_mean(zeta, x64):
    """Of {2, 8} at a count of 4: 3.419 for 3.426; the posterior mean is 4.329."""
    points, n = np.array([2.0, 8.0]), 4.0

    def log_likelihood(n, x):
        return n * jnp.log(x) - x - lgamma(n + 1)

    weights, score = posterior(log_likelihood, points, n)
    y = np.array([zeta * n])
    got = eager.tweedie_poisson(y, np.array([score]), zeta=zeta) / zeta
    np.testing.assert_allclose(got, 3.419, atol=5e-4)
    np.testing.assert_allclose(np.exp(weights @ np.log(points)), 3.426, atol=5e-4)
    np.testing.assert_allclose(weights @ points, 4.329, atol=5e-4)
    exact = (
        np.exp(weights @ np.log(points)) * 4.5 / np.exp(jax.scipy.special.digamma(5.0))
    )
    np.testing.assert_allclose(got, exact, rtol=1e-12)


def test_scores_that_are_wrong_stay_finite():
    y = np.float32([0, 1])
    assert np.isfinite(
        eager.tweedie_poisson(y, np.float32([1e30, -1e30]), zeta=0.1)
    ).all()
    got = eager.tweedie_gamma(y, np.float32([1e30, 1e30]), shape=2.0)
    np.testing.assert_allclose(got, [0, 2e6], rtol=1e-6)


def test_score_and_clean_data_are_inverses(x64):
    f, x = np.random.default_rng(0).normal(size=(2, 4, 3))
    alpha, h = np.linspace(0.2, 0.9, 4), np.linspace(0.9, 0.2, 4)
    score = eager.score_from_x0(f, x, alpha=alpha, h=h)
    got = eager.x0_from_score(score, x, alpha=alpha, h=h)
    np.testing.assert_allclose(got, f, rtol=1e-12)
    same = eager.dae_score(f, x, sigma=np.sqrt(h))
    np.testing.assert_allclose(same, eager.score_from_x0(f, x, alpha=1.0, h=h))
    norm = np.linalg.norm(f, axis=-1, keepdims=True)
    inside = f * np.minimum(1, 0.5 / norm)
    np.testing.assert_allclose(
        eager.score_from_x0(f, x, alpha=alpha, h=h, radius=0.5),
        eager.score_from_x0(inside, x, alpha=alpha, h=h),
        rtol=1e-12,
    )
    slope = jax.grad(
        lambda f: eager.score_from_x0(f, x, alpha=1.0, h=1.0, radius=1.0).sum()
    )(np.zeros((4, 3)))
    np.testing.assert_array_equal(slope, 1)


def test_annealing():
    steps = np.array([0, 500, 1000, 5000])
    got = eager.anneal_sigma(steps, sigma_max=0.5, sigma_min=0.1, steps=1000)
    np.testing.assert_allclose(got, [0.5, 0.3, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: estimators.tweedie_gaussian(x, x, variance=0.0),
            "variance is 0.0, expected positive",
        ),
        (
            lambda x: estimators.tweedie_poisson(x, x[:1], zeta=1.0),
            r"score has shape \(1, 3\), expected that of y, \(2, 3\)",
        ),
        (
            lambda x: estimators.tweedie_gamma(x, x, shape=-1.0),
            "shape is -1.0, expected positive",
        ),
        (
            lambda x: estimators.score_from_x0(x, x, alpha=1.0, h=0.0),
            "h is 0.0, expected positive",
        ),
        (
            lambda x: estimators.anneal_sigma(0, sigma_max=1, sigma_min=0, steps=1),
            "sigma_min is 0, expected positive",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 3)))
