import jax
import numpy as np
import pytest

from configs.representations import get_config
from experiments.representations import halfspace


@pytest.fixture(scope="module")
def config():
    config = get_config("halfspace-smoke")
    with config.unlocked():
        config.rows, config.dimension = 2000, 3
    return config


def test_the_farthest_labels_are_wrong(config):
    w = halfspace.direction(jax.random.key(0), 3)
    for kind in halfspace.KINDS:
        x, y = halfspace.draw(jax.random.key(1), w, config, kind)
        score = np.asarray(x @ w)
        wrong = (score > 0) != np.asarray(y)
        np.testing.assert_allclose(wrong.mean(), 0.1, atol=1e-3)
        assert np.abs(score[wrong]).min() > np.abs(score[~wrong]).max() - 1e-6


def test_kinds_of_data(config):
    w = halfspace.direction(jax.random.key(0), 3)
    x, _ = halfspace.draw(jax.random.key(1), w, config, halfspace.TAILS)
    assert np.mean(np.asarray(x[:, 0]) ** 4) > 4
    with config.unlocked():
        config.cluster = 0.5
    x, _ = halfspace.draw(jax.random.key(1), w, config, halfspace.CLUSTER)
    assert np.mean(np.abs(np.asarray(x @ w)) < 0.3) > 0.5


def test_bad_configs_are_refused(refused):
    refused("representations:halfspace", "flipped", 0.5, "config.flipped is 0.5")
    refused("representations:halfspace", "freedom", 2.0, "config.freedom is 2.0")


def test_end_to_end(run_study):
    done = run_study("representations:halfspace")
    assert done.figures == ["accepted", "error"]
