import numpy as np
import pytest

from experiments.estimation import quantiles


def test_weighted_quantiles():
    y = np.array([3.0, 1.0, 2.0, 4.0])
    levels = np.array([0.25, 0.5, 0.9])
    weights = np.array([[0.25] * 4, [0.0, 0.5, 0.5, 0.0]])
    found = quantiles.weighted_quantiles(weights, y, levels)
    np.testing.assert_array_equal(found, [[1, 2, 4], [1, 1, 2]])


def test_calibrated_intervals():
    # Two folds of nine patients each, and one more; all intervals are [0, 1].
    outside = np.arange(1.0, 10.0)  # how far each is above
    y = np.concatenate([np.stack([outside, 10 * outside], 1).ravel(), [0]]) + 1
    split = quantiles.Fits(None, y, np.arange(18) % 2, None)
    low, high = np.zeros((3, 19)), np.ones((3, 19))
    found = quantiles.calibrated(split, low, high, 0.2)
    below, above = found["cqr"]
    np.testing.assert_allclose(above, [[9], [81]])  # the 8th of 9: 1 + 8 and 1 + 80
    np.testing.assert_allclose(below, [[-8], [-80]])
    below, above = found["cv"]
    score = np.sort(np.concatenate([outside, 10 * outside]))[15]  # the 16th of 18
    np.testing.assert_allclose([below[0], above[0]], [-score, 1 + score])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("levels", (0.1, 0.5, 0.8), "config.levels is"),
        ("levels", (0.9, 0.5, 0.1), "config.levels is"),
        ("levels", (0.0, 0.5, 1.0), "config.levels is"),
        ("folds", 1, "config.folds and config.train are 1 and 300"),
        ("train", 442, "below 442"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("estimation:quantiles", key, value, message)


def test_end_to_end(run_study):
    done = run_study("estimation:quantiles")
    assert done.figures == ["coverage", "score"]
    for name in quantiles.SINGLE:
        assert np.isfinite(done.results[name].final("score")).all()
    texts = [v.text for v in done.verdicts.values() if v.kind == "theorem"]
    assert done.verdicts[texts[0]].verdict == "reproduced"  # sorting
