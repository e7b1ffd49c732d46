import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.online import bandit


def test_rates():
    np.testing.assert_allclose(
        bandit.rate("log_barrier", 10, 1000), np.sqrt(10 * np.log(1000) / 1000)
    )
    np.testing.assert_allclose(
        bandit.rate("exponential", 10, 1000), np.sqrt(np.log(10) / 10_000)
    )


@pytest.mark.parametrize("name", [bandit.BARRIER, bandit.SAME])
def test_plays_have_regret_until_they_know(name):
    means = jnp.float32([[0.2, 0.8], [0.8, 0.2]])
    keys = jax.random.split(jax.random.key(0), 2)
    regret = bandit.played(name, 300, 0.1, 0.0, means, keys)
    assert ((regret > 0.6) & (regret < 0.15 * 300)).all()
    still = bandit.played(name, 300, 1e-9, 0.0, means, keys)  # even chances
    np.testing.assert_allclose(still, [90, 90], rtol=1e-4)


def test_bad_configs_are_refused(refused):
    refused("online:bandit", "shifts", (1.0, 2.0), "expected growing numbers from 0")
    refused("online:bandit", "horizons", (10,), "expected two, growing")
    refused("online:bandit", "arms", 1, "config.arms is 1")


def test_end_to_end(run_study):
    done = run_study("online:bandit")
    assert done.figures == ["rounds", "shift"]


@pytest.mark.slow
def test_twenty_curves_in_one_program():
    """Half a minute on two cores that do nothing else."""
    keys = jax.random.split(jax.random.key(0), 20)
    means = jnp.tile(jnp.float32([[0.2] + 9 * [0.5]]), (20, 1))
    eta = bandit.rate(bandit.BARRIER, 10, 16_000)
    regret = bandit.played(bandit.BARRIER, 16_000, eta, 0.0, means, keys)
    assert regret.shape == (20,)
    assert (regret < 0.3 * 0.27 * 16_000).all()
