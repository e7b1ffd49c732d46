import numpy as np
import pytest

from configs.preference import get_config
from experiments.preference import noise

RNG = np.random.default_rng(0)


@pytest.mark.usefixtures("x64")
def test_gap_is_the_divergence_from_the_best_policy():
    phi, theta, true = RNG.normal(size=(6, 3)), *RNG.normal(size=(2, 3))

    def policy(weights):
        odds = np.exp(phi @ weights)
        return odds / odds.sum()

    p, best = policy(theta), policy(true)
    want = 0.7 * p @ np.log(p / best)
    gap = noise.value_gap(phi, theta, true, 0.7)
    np.testing.assert_allclose(gap, want, rtol=1e-12)
    np.testing.assert_allclose(noise.value_gap(phi, true, true, 0.7), 0, atol=1e-14)


def test_ranking_accuracy():
    accuracy = noise.ranking_accuracy
    scores = np.float32([0, 1, 3, 2])
    np.testing.assert_allclose(accuracy(scores, np.arange(4)), 5 / 6, rtol=1e-6)
    np.testing.assert_allclose(accuracy(scores, -np.arange(4)), 1 / 6, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False, expected True"),
        ("rates", (0.1, 0.5), "config.rates is"),
        ("problem.arms", 1, "config.problem.arms is 1, expected at least 2"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:noise", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:noise")
    assert done.figures == ["accuracy", "gap", "norm"]
    verdicts = [v.verdict for v in done.verdicts.values()]
    assert verdicts[:3] == 3 * ["reproduced"]  # 10 % are flipped
    assert list(done.results) == ["dpo", "cdpo", "rdpo"]
    for metric in ("gap/0", "norm/0", "accuracy/0"):  # nothing is flipped
        ours = np.array([arm.final(metric) for arm in done.results.values()])
        np.testing.assert_allclose(ours - ours[:1], 0, atol=1e-6)


def test_there_is_no_other_variant():
    with pytest.raises(ValueError, match="variant 'nosie', expected one of noise"):
        get_config("nosie")
