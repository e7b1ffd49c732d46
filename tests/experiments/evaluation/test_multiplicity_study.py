import numpy as np
import pytest
import scipy.stats

from experiments.evaluation import multiplicity


def test_patients():
    halves = multiplicity.patients()
    assert sum(len(half.y) for half in halves) == 569
    assert min(len(half.y) for half in halves) == multiplicity.HALF
    assert sum(half.y.sum() for half in halves) == 212  # malignant
    x = np.concatenate([half.x for half in halves])
    np.testing.assert_allclose(x[:, :3].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(x[:, :3].std(0), 1)
    assert [set(half.x[:, 3]) for half in halves] == [{-1}, {1}]


def test_p_value():
    gaps = np.array([0.1, 0.2, -0.05, 0.3])
    t = gaps.mean() / (gaps.std(ddof=1) / 2)
    want = scipy.stats.t.sf(t, 3)
    np.testing.assert_allclose(multiplicity._p_value(gaps), want)
    assert multiplicity._p_value(-gaps) > 0.5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("epsilons", (0.1, 0.01), "config.epsilons is"),
        ("epsilons", (0.0, 0.1), "config.epsilons is"),
        ("group_epsilon", 0.03, "config.group_epsilon is 0.03"),
        ("group_flipped", 0.3, "config.group_flipped is 0.3"),
        ("flipped", (0.5,), "config.flipped is"),
        ("rare", 160, "config.rare, config.common and config.asked"),
        ("asked", 125, "284 at most"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:multiplicity", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:multiplicity")
    assert done.figures == ["ambiguity", "discrepancy", "groups"]
    (arm,) = done.results.values()
    for epsilon in ("0.01", "0.05"):
        assert (arm[f"discrepancy/{epsilon}"] <= arm[f"ambiguity/{epsilon}"]).all()
        gap = arm[f"rare/{epsilon}"] - arm[f"common/{epsilon}"]
        np.testing.assert_allclose(arm[f"gap/{epsilon}"], gap)
        assert (arm[f"common/{epsilon}"] > 0).all()
    assert (arm["common/0.05"] > arm["common/0.01"]).all()
    verdicts = list(done.verdicts.values())
    assert [v.over for v in verdicts] == ["every"] * 3 + ["all"]
    assert [v.kind for v in verdicts] == ["theorem", "own", "theorem", "own"]
    assert verdicts[0].verdict == verdicts[2].verdict == "reproduced"
