import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import metrics
from logitlab.metrics import multiplicity

calls = functions(multiplicity)


def draw(seed, models=5, n=40):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(models, n)), rng.uniform(size=models)


def test_empirical_multiplicity(x64):
    p, loss = draw(0)
    epsilon, delta = np.sort(loss)[2] - loss.min() + 1e-9, 0.4  # three are good enough
    good, base = p[loss <= loss.min() + epsilon], p[loss.argmin()]
    assert len(good) == 3
    apart = np.abs(good - base) >= delta
    got = calls.empirical_multiplicity(p, loss, epsilon=epsilon, delta=delta)
    np.testing.assert_array_equal(got.ranges, np.stack([good.min(0), good.max(0)], -1))
    np.testing.assert_allclose(got.ambiguity, apart.any(0).mean(), 1e-12)
    np.testing.assert_allclose(got.discrepancy, apart.mean(1).max(), 1e-12)
    assert got.discrepancy < got.ambiguity
    mask = np.arange(40) % 3 > 0
    some = calls.empirical_multiplicity(
        p, loss, epsilon=epsilon, delta=delta, mask=mask
    )
    np.testing.assert_allclose(some.ambiguity, apart[:, mask].any(0).mean(), 1e-12)
    np.testing.assert_allclose(some.discrepancy, apart[:, mask].mean(1).max(), 1e-12)
    # Alone it agrees with itself; a broken model takes no part.
    alone = calls.empirical_multiplicity(p, loss, epsilon=0.0, delta=delta)
    assert alone.ambiguity == alone.discrepancy == 0
    loss[loss.argmin()] = np.nan
    rest = calls.empirical_multiplicity(p, loss, epsilon=0.0, delta=delta)
    np.testing.assert_array_equal(rest.ranges[:, 0], p[np.nanargmin(loss)])


@pytest.mark.parametrize("seed", range(3))
def test_multiplicity_grows_with_epsilon(seed):
    p, loss = draw(seed, models=12)
    found = [
        calls.empirical_multiplicity(p, loss, epsilon=e, delta=0.5)
        for e in np.linspace(0, 1, 6)
    ]
    for name in ("ambiguity", "discrepancy"):
        assert (np.diff([getattr(a, name) for a in found]) >= 0).all()
    assert all(a.discrepancy <= a.ambiguity for a in found)


def test_bounds_and_batches():
    p = np.float32([0.5, 0.1, 0.9, 0.5])
    ranges = np.float32([[0.4, 0.9], [0.0, 0.2], [0.1, 1.0], [0.5, 0.5]])
    models = np.float32([[0.9, 0.2, 0.9, 0.5], [0.5, 0.1, 0.1, 0.5]])
    got = calls.discrepancy_bounds(p, ranges, models, delta=0.375)
    assert (got.lower, got.upper) == (0.25, 0.5)
    whole = calls.predictive_ambiguity(p, ranges, delta=0.375)
    total = calls.predictive_ambiguity(p[:1], ranges[:1], delta=0.375)
    total += calls.predictive_ambiguity(p[1:], ranges[1:], delta=0.375)
    assert (total.sum, total.count) == (whole.sum, whole.count) == (2, 4)
    none = calls.discrepancy_bounds(
        p, ranges, models, delta=0.1, mask=np.zeros(4, bool)
    )
    assert none == (0, 0)
    assert calls.discrepancy_bounds(p, ranges, models[:0], delta=0.375) == (0, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: metrics.predictive_ambiguity(p[0], p, delta=0.1),
            r"ranges has shape \(2, 3\), expected \(3, 2\)",
        ),
        (
            lambda p: metrics.predictive_ambiguity(p[0], p.T, delta=0.0),
            r"delta is 0.0, expected in \(0, 1\]",
        ),
        (
            lambda p: metrics.discrepancy_bounds(p[0], p.T, p[0], delta=0.1),
            r"model_probs has shape \(3,\)",
        ),
        (
            lambda p: metrics.empirical_multiplicity(p, p[0], epsilon=0.1, delta=0.1),
            "probs, losses have shapes",
        ),
        (
            lambda p: metrics.empirical_multiplicity(p, p[:, 0], epsilon=-1, delta=0.1),
            "epsilon is -1, expected at least 0",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), "f4"))
