import jax
import numpy as np
import pytest

from experiments.preference import bandits


def test_the_data_are_near_bin_15_and_at_both_ends():
    logps = bandits.data_policy(jax.random.key(0), 100, 10_000)
    p = np.exp(np.asarray(logps, np.float64))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    assert p.min() > 0  # no bin is empty
    edges = np.linspace(-1, 1, 101)[1:-1]
    cdf = 0.5 + np.arctan((np.arctanh(edges) + 0.7) / 0.4) / np.pi
    np.testing.assert_allclose(p.cumsum()[:-1], cdf, atol=0.02)


def test_pairs_of_a_prompt():
    actions = np.array([[7, 8, 9]])
    rewards = np.float32([[0.1, 0.5, 0.1]])
    better, worse, counts = bandits.pairs_of(actions, rewards)
    np.testing.assert_array_equal(better, [[8, 7, 8]])
    np.testing.assert_array_equal(worse, [[7, 9, 9]])
    np.testing.assert_array_equal(counts, [[True, False, True]])
    clear = bandits.pairs_of(actions, rewards, 0.4)[2]
    np.testing.assert_array_equal(clear, [[False, False, False]])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pick", ("dpo", "pqo"), "config.pick is .* expected some of"),
        ("rounds", 7, "config.rounds is 7, expected a divisor"),
        ("evaluate_every", 30, "config.evaluate_every is 30, expected a divisor"),
        ("answers", 1, "config.answers is 1, expected at least 2"),
        ("tolerances.early", 505, "config.tolerances.early is 505"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:bandits", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:bandits")
    assert done.figures == ["far", "near", "training_offline", "training_on_policy"]
    outcomes = [v.verdict for v in done.verdicts.values()]
    assert outcomes.count("not tested") == 2  # REINFORCE, IPO
    offline, own = (
        done.results[f"best_of_n_{s}"].arrays["far_curve"]
        for s in ("offline", "on_policy")
    )
    assert offline.shape == (2, 5)
    np.testing.assert_array_equal(offline[:, 0], own[:, 0])
    assert (own[:, -1] > own[:, 0]).all()
