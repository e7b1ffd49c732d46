import jax
import numpy as np

from configs.decisions import get_config
from experiments.decisions import grouped_actions


def test_regret_is_of_the_group_that_seems_best():
    """Without noise a group's estimate is the mean that it plays."""
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = (8, 4, (8,))
    (clusters,) = grouped_actions._regrets(4, *sizes, keys, 0.15, 0.0)
    assert 0 < clusters < 0.4
    (same,) = grouped_actions._regrets(4, *sizes, keys, 0.0, 0.0)
    np.testing.assert_allclose(same, 0, atol=1e-6)


def test_crossing():
    gaps = np.array([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    samples = np.array([1, 4, 16])
    found = grouped_actions.crossing(samples, np.array([[1, 1, -1], [1, -3, -1]]).T)
    np.testing.assert_allclose(found, [8, 2**0.5])
    assert np.isnan(grouped_actions.crossing(samples, gaps[2:].T)).all()


def test_bad_configs_are_refused(refused):
    name = "decisions:grouped_actions"
    refused(name, "groups", (8, 7, 64), "config.groups has 7, expected a divisor of")
    refused(name, "groups", (4, 64), "expected config.clusters, 8, and config.actions")
    refused(name, "samples", (100, 200), "expected growing multiples of config.actions")
    refused(name, "between", (100, 2048), "expected two of config.samples")


def test_end_to_end(run_study):
    done = run_study("decisions:grouped_actions", seeds=1)
    assert done.figures == ["regret"]
    assert get_config("grouped_actions-smoke").samples[-1] == 2048
    for arm in done.results.values():
        assert (arm.final("regret/2048") < arm.final("regret/64")).all()
