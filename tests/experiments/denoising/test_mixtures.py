"""The oracles, against derivatives, quadrature and enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from configs.denoising import get_config
from experiments.denoising import _mixtures as mixtures
from experiments.denoising import autoencoders, denoising


def test_score_is_the_slope_of_the_log_density(x64):
    mixture = mixtures.circle(3, 1.0, 0.3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    alpha, h = jnp.linspace(0.5, 1, 5), jnp.linspace(0.1, 0.9, 5)

    def total(x):
        return mixtures.log_density(x, mixture, alpha, h).sum()

    np.testing.assert_allclose(
        mixtures.score(x, mixture, alpha, h), jax.grad(total)(x), rtol=1e-10
    )
    one = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), 0.3)
    np.testing.assert_allclose(  # of a Gaussian, linear
        mixtures.clean_mean(x, one, h=0.5), x * 0.09 / (0.09 + 0.5), rtol=1e-10
    )


def test_density_and_posterior_mean_by_quadrature(x64):
    mixture = mixtures.Mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.0], [2.0]]), 0.4)
    x0 = np.linspace(-6, 7, 20_001)
    prior = np.exp(mixtures.log_density(jnp.asarray(x0)[:, None], mixture))
    step = x0[1] - x0[0]
    np.testing.assert_allclose(prior.sum() * step, 1, rtol=1e-9)
    alpha, h, x = 0.8, 0.36, np.array([[0.1], [1.5]])
    weights = prior * np.exp(-((x - alpha * x0) ** 2) / (2 * h))
    want = (weights @ x0) / weights.sum(1)
    got = mixtures.clean_mean(jnp.asarray(x), mixture, alpha, h)[:, 0]
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_draws_have_the_moments():
    mixture = mixtures.Mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.0], [2.0]]), 0.4)
    x = np.asarray(mixtures.draw(jax.random.key(0), mixture, 10_000))
    np.testing.assert_allclose(x.mean(), 1.1, atol=0.06)
    np.testing.assert_allclose((x**2).mean(), 3.1 + 0.16, atol=0.1)


def test_discrete_posteriors(x64):
    """Of {1, 3} behind gamma noise of shape 4, at y = 2."""
    prior = mixtures.Discrete(jnp.array([1.0, 3.0]), jnp.array([0.5, 0.5]))
    expected = mixtures.posterior(
        jnp.array([2.0]), prior, lambda y, x: -4 * (jnp.log(x) + y / x)
    )
    np.testing.assert_allclose(expected(lambda x: x), [2.4377], atol=5e-5)
    np.testing.assert_allclose(1 / expected(lambda x: 1 / x), [1.9203], atol=5e-5)


def test_the_contractive_autoencoder_of_a_gaussian():
    """r(x) = x / (1 + sigma^2), if the variance is 1."""
    normal = mixtures.Mixture(np.ones(1), np.zeros((1, 1)), 1.0)
    x = np.linspace(-2, 2, 9)
    for sigma in (0.1, 0.5):
        got = autoencoders.contractive_score(x, sigma, normal)
        np.testing.assert_allclose(got, -x / (1 + sigma**2), atol=2e-3)


def test_oracles_have_the_least_error_in_their_scale():
    """And not in x: there the posterior mean has less behind gamma noise."""
    config, rng = get_config("denoising"), np.random.default_rng(0)
    for name, zeta in (("gamma", 10.0), ("poisson", 0.05)):
        problem = denoising.problem(config, config.noises[name])
        low = {"gamma": 0.3, "poisson": 0.1}[name]
        prior = mixtures.two_bumps(low, 1.0, 141 if name == "gamma" else 181)
        weights = np.asarray(prior.weights, float)
        x = rng.choice(np.asarray(prior.points), (5000, 1), p=weights / weights.sum())
        if name == "gamma":
            y = x * rng.gamma(zeta, size=x.shape) / zeta
        else:
            y = zeta * rng.poisson(x / zeta)
        y = y.astype("f4")
        oracle = interpreted(lambda y, p=problem: p.oracle(y, None))(y)
        mean = interpreted(problem.mean)(y)
        assert (oracle < mean).all()
        scale = {"gamma": lambda x: 1 / x, "poisson": np.log}[name]
        errors = [
            ((scale(a) - scale(x)) ** 2).mean()
            for a in (oracle, mean, 1.05 * oracle, 0.95 * oracle)
        ]
        assert errors[0] == min(errors), name
        assert ((mean - x) ** 2).mean() < ((oracle - x) ** 2).mean(), name
