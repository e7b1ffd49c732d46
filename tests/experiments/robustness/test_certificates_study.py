import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments.robustness import certificates


def test_radii_of_votes():
    """Of the class that the pilot saw, by hand for a level of which all is known."""
    pilot = jnp.zeros((5, 2, 10)).at[..., 3].set(1.0)
    counts = np.zeros((2, 10), int)
    counts[:, 3] = 100
    one, two = certificates.vote_radii(pilot, counts, jnp.array([3, 4]), 0.5, 0.01)
    np.testing.assert_allclose(one, [0.5 * norm.ppf(0.01**0.01), 0], rtol=1e-3)
    np.testing.assert_allclose(two, [0.5 * norm.ppf(0.001**0.01), 0], rtol=1e-3)


def test_lipschitz_error():
    assert certificates.lipschitz_error((0.5, 5.0)) < 1e-5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("images", 1000, "config.images is 1000"),
        ("chunk", 3, "expected a multiple of config.chunk"),
        ("temperatures", (0.0, 1.0), "config.temperatures is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("robustness:certificates", key, value, message)


@pytest.mark.slow  # a program for each way to choose a map takes long to compile
def test_end_to_end(run_study):
    done = run_study("robustness:certificates", seeds=1)
    assert done.figures == ["draws", "radii"]
    known = done.results["known"]
    for way in ("holdout", "bonferroni", "official"):
        assert known.final(f"false/{way}") <= known.final(f"certified/{way}")
    assert known.final("lipschitz/error") < 1e-5
