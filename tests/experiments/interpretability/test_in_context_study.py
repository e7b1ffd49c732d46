import jax
import numpy as np

from configs.interpretability import get_config
from experiments.interpretability import in_context
from logitlab import theory

CONFIG = get_config("in_context")


def test_the_risk_of_a_matrix_is_that_of_the_step():
    n, d, sigma2 = CONFIG.examples, CONFIG.features, CONFIG.noise
    for eta in (0.02, 0.05):
        want = theory.one_step_risk(n, d, sigma2, eta=eta)
        got = in_context.risk_of(eta * np.eye(d), np.eye(d), CONFIG)
        np.testing.assert_allclose(got, want, rtol=1e-5)
    root = in_context.root_of_covariance(jax.random.key(0), d)
    sizes = np.linalg.eigvalsh(root @ root)
    np.testing.assert_allclose(sizes, np.geomspace(0.5, 2, d), rtol=1e-4)
    best = theory.optimal_one_step_eta(n, d, sigma2) * np.linalg.inv(root @ root)
    got = in_context.risk_of(best, root, CONFIG)
    np.testing.assert_allclose(got, theory.one_step_risk(n, d, sigma2), rtol=1e-4)


def test_tasks_have_the_covariance():
    root = in_context.root_of_covariance(jax.random.key(0), CONFIG.features)
    x, y, query, answer = in_context.draw(jax.random.key(1), CONFIG, root, 3000)
    rows = np.asarray(x).reshape(-1, CONFIG.features)
    np.testing.assert_allclose(np.cov(rows.T), root @ root, atol=0.05)
    assert y.shape == (3000, CONFIG.examples)
    assert query.shape == (3000, CONFIG.features)
    np.testing.assert_allclose(np.var(answer), CONFIG.features + CONFIG.noise, rtol=0.1)


def test_bad_configs_are_refused(refused):
    refused("interpretability:in_context", "examples", 0, "config.examples is 0")
    refused("interpretability:in_context", "noise", -1.0, "expected at least 0")
