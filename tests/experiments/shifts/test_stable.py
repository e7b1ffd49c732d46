import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.shifts import get_config
from experiments.shifts import stable


def test_spurious_variables_follow_the_rate():
    config, key = get_config("stable"), jax.random.key(0)
    for rate in (0.0, 0.9):
        x, y = stable.draw(key, config, rate, 4000)
        agrees = (x[:, config.stable :].mean(1) > 0) == (y == 1)
        np.testing.assert_allclose(agrees.mean(), rate, atol=0.04)
        assert 0.3 < y.mean() < 0.7
    # Labels are a function of the stable variables alone.
    again, same = stable.draw(key, config, 0.1, 4000)
    np.testing.assert_array_equal(x[:, : config.stable], again[:, : config.stable])
    np.testing.assert_array_equal(y, same)


def test_weighted_fit():
    x = jnp.float32([[1], [-1], [1]])
    y, weights = jnp.array([1, 0, 0]), jnp.float32([1, 1, 0])
    slope, _ = stable.fit(x, y, weights, 100)
    assert slope[0] > 1


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("shifts:stable", seeds=1)
    assert all(np.isfinite(v.ours).all() for v in done.verdicts.values())


def test_bad_configs_are_refused(refused):
    refused("shifts:stable", "rates", (0.5, 1.5), "expected a share in")
