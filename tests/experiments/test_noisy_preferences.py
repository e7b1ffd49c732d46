import csv

import numpy as np
import pytest

from configs.preference import get_config
from experiments import noisy_preferences
from logitlab import report

RNG = np.random.default_rng(0)


@pytest.mark.usefixtures("x64")
def test_gap_is_the_divergence_from_the_best_policy():
    phi, theta, true = RNG.normal(size=(6, 3)), *RNG.normal(size=(2, 3))

    def policy(weights):
        odds = np.exp(phi @ weights)
        return odds / odds.sum()

    p, best = policy(theta), policy(true)
    want = 0.7 * p @ np.log(p / best)
    gap = noisy_preferences.value_gap(phi, theta, true, 0.7)
    np.testing.assert_allclose(gap, want, rtol=1e-12)
    np.testing.assert_allclose(
        noisy_preferences.value_gap(phi, true, true, 0.7), 0, atol=1e-14
    )


def test_ranking_accuracy():
    accuracy = noisy_preferences.ranking_accuracy
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
def test_what_cannot_be_run_is_not_built(key, value, message):
    config = get_config("noise")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        noisy_preferences.build(config)


def test_through_the_door(door, tmp_path):
    code, out = door("smoke", tmp_path, config="preference")
    assert code == 0, out
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == ["accuracy.png", "gap.png", "norm.png"]
    verdicts = report.read_claims(tmp_path / "claims.json")
    assert [v.verdict for v in verdicts[:3]] == 3 * ["reproduced"]  # 10 % are flipped
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["arm"] for row in rows[::2]] == ["dpo", "cdpo", "rdpo"]
    for metric in ("gap/0", "norm/0", "accuracy/0"):  # nothing is flipped
        ours = np.array([float(row[metric]) for row in rows]).reshape(3, 2)
        np.testing.assert_allclose(ours - ours[0], 0, atol=1e-6)


def test_there_is_no_other_variant():
    with pytest.raises(ValueError, match="variant 'nosie', expected one of noise"):
        get_config("nosie")
