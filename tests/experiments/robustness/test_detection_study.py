import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.robustness import detection
from logitlab import metrics


def test_noise_is_that_of_the_metric():
    """A score that returns its input shows the noisy copies themselves."""
    x = jnp.full((2000, 2), 3.0)
    got = metrics.expected_perturbation_score(
        lambda x, t: x, x, jax.random.key(0), num_steps=1, t_max=0.5
    )
    mean, sigma = detection.moments(0.5)
    np.testing.assert_allclose(got.mean(), 3 * mean, atol=0.05)
    np.testing.assert_allclose(got.std(), sigma, rtol=0.05)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reference", 797, "config.reference is 797"),
        ("eps", (0.0, 0.1, 0.2), "config.eps is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("robustness:detection", key, value, message)


def test_end_to_end(run_study):
    done = run_study("robustness:detection", seeds=1)
    assert done.figures == ["auroc"]
    for arm in done.results.values():
        assert 0 <= arm.final("auroc/0.2") <= 1
