import jax
import numpy as np

from configs.classification import get_config
from experiments.classification import utility


def test_gains_are_shares_of_equal_bits():
    assert utility.ANSWERS.shape == (64, 6)
    assert utility.GAINS[0, 63] == 0
    np.testing.assert_array_equal(np.diag(utility.GAINS), 1)
    np.testing.assert_allclose(utility.GAINS.mean(), 0.5)


def test_what_stands_out_is_unlike_the_others():
    config = get_config("utility")
    x = np.random.default_rng(0).normal(size=(50, 8)).astype("f4")
    key = jax.random.key(0)
    with_spikes = utility.true_utilities(key, x, config)
    with config.unlocked():
        config.spike = 0.0
    alike = np.asarray(utility.true_utilities(key, x, config))
    assert ((with_spikes - alike) > 0).mean() < 0.2
    middle = alike[:, ::-1] + alike  # a string and its opposite
    np.testing.assert_allclose(middle, 0, atol=1e-5)


def test_an_update_is_a_gradient_step():
    assert utility.step_difference(jax.random.key(1)) < 1e-6


def test_sizes_are_checked(refused):
    refused("classification:utility", "held", 0, "config.held 0")
