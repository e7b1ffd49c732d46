import jax
import numpy as np
import pytest

from experiments.decisions import shared_features

SIZES = (3, 4, 5, 6, 2, 30)


def test_tasks_that_know_a_feature_lose_little():
    keys = jax.random.split(jax.random.key(0), 4)
    lost = {
        name: np.asarray(shared_features.played(name, SIZES, keys, 0.1, 1.0))
        for name in (shared_features.KNOWN, shared_features.ALONE)
    }
    known, alone = lost[shared_features.KNOWN], lost[shared_features.ALONE]
    assert known.shape == (4, 30)
    assert (known >= 0).all()
    assert known[:, 20:].mean() < 0.3 * known[:, 0].mean()  # learned by then
    assert known.sum() < alone.sum()


@pytest.mark.slow
def test_one_candidate_is_to_know_it():
    keys = jax.random.split(jax.random.key(1), 2)
    sizes = (3, 1, 5, 6, 2, 10)
    known = shared_features.played(shared_features.KNOWN, sizes, keys, 0.5, 1.0)
    joint = shared_features.played(shared_features.JOINT, sizes, keys, 0.5, 1.0)
    np.testing.assert_array_equal(known, joint)


def test_bad_configs_are_refused(refused):
    name = "decisions:shared_features"
    refused(name, "arms", 1, "config.arms is 1, expected at least 2")
    refused(name, "tasks", 0, "config.tasks is 0")
    refused(name, "marks", (10, 20), "expected growing numbers to config.rounds, 120")


def test_end_to_end(run_study):
    done = run_study("decisions:shared_features", seeds=1)
    assert done.figures == ["regret"]
    for arm in done.results.values():
        assert (arm.final("regret/3") <= arm.final("regret/6")).all()
