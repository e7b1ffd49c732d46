import numpy as np
import pytest
import scipy.stats

from experiments.evaluation import accuracy


def test_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20)).round(1)  # with ties
    want = scipy.stats.spearmanr(a, b).statistic
    np.testing.assert_allclose(accuracy.correlation(a, b), want)
    np.testing.assert_allclose(accuracy.correlation(a, 3 * a + 1), 1)
    assert np.isnan(accuracy.correlation(a, np.ones(20)))
    assert np.isnan(accuracy.correlation(a[:1], b[:1]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kinds", ("fog",), "config.kinds is"),
        ("kinds", (), "config.kinds is"),
        ("severities", (1,), "config.severities is"),
        ("severities", (1, 6), "config.severities is"),
        ("labeled", 1000, "config.train is 1900"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:accuracy", key, value, message)


@pytest.mark.slow  # 14 estimates take long to compile
def test_end_to_end(run_study):
    done = run_study("evaluation:accuracy")
    assert done.figures == ["errors", "league"]
    assert done.results.keys() == accuracy.LABELS.keys()
    truth = done.results["mano"].arrays["truth"]
    assert truth.shape == (1, 2, 2)
    for name, arm in done.results.items():
        np.testing.assert_array_equal(arm.arrays["truth"], truth)
        assert np.isfinite(arm.arrays["score"]).all(), name
        assert ("error" in arm) == (name in accuracy.DIRECT)
    assert (truth[:, :, 1] < truth[:, :, 0]).all()  # worse at the highest severity
