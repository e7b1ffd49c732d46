import jax
import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy import stats

from logitlab import estimators
from logitlab.estimators import halfspaces

QUICK = dict(sigmas=(0.3, 0.1), starts=2, steps=40, batch_size=300)
W = np.array([0.6, 0.8, 0.0])


def drawn(rows=3000, flipped=0.1, seed=0):
    """Normal features, and labels of which the most confident ones are wrong."""
    x = np.random.default_rng(seed).normal(size=(rows, 3))
    score = x @ W
    wrong = np.abs(score) >= np.quantile(np.abs(score), 1 - flipped)
    return np.float32(x), ((score > 0) ^ wrong).astype(int)


def test_confident_wrong_labels_do_no_harm():
    x, y = drawn()
    fit = estimators.learn_halfspace(x, y, jax.random.key(0), **QUICK)
    assert fit.candidates.shape == (4, 3)
    np.testing.assert_allclose(np.linalg.norm(fit.candidates, axis=1), 1, rtol=1e-5)
    assert fit.direction @ np.float32(W) > 0.999
    assert 0.1 <= fit.error < 0.11
    np.testing.assert_allclose(fit.error, np.mean((x @ fit.direction > 0) != y))
    back = estimators.learn_halfspace(x, 1 - y, jax.random.key(0), **QUICK)
    np.testing.assert_allclose(back.direction, -fit.direction, atol=2e-2)


def test_statistics(x64):
    x, y = drawn(2000)
    x = x.astype(float)
    got = estimators.test_halfspace(x, y, 3 * W, sigma=0.2)
    score = x @ W
    band = np.abs(score) <= 0.2
    mass = band.mean() / (2 * stats.norm.cdf(0.2) - 1)
    np.testing.assert_allclose(got.band_mass, mass, rtol=1e-9)
    assert got.in_band == band.sum()
    rest = (x - np.outer(score, W))[band]
    gap = rest.T @ rest / band.sum() - (np.eye(3) - np.outer(W, W))
    np.testing.assert_allclose(got.band_moments, np.linalg.norm(gap, 2), rtol=1e-9)
    lines = np.stack([*x.T, score])
    powers = np.stack([lines**k for k in (1, 2, 3, 4)])
    off = np.abs(powers.mean(-1) - np.array([[0], [1], [0], [3]]))
    off = off / np.sqrt([[1], [2], [15], [96]])
    np.testing.assert_allclose(got.moments, off.max(), rtol=1e-9)
    wrong = ((score > 0) != y)[band]
    assert wrong.sum() == 0  # the wrong labels are far away
    np.testing.assert_allclose(got.wrong_moments, 0, atol=1e-12)
    assert got.accepted


def test_the_most_that_wrong_labels_can_do(x64):
    most = interpreted(halfspaces._most_moment)
    for q in (0.01, 0.3, 0.9):
        t = stats.norm.isf(q / 2)
        want = 2 * stats.norm.expect(lambda v: v**2, lb=t)
        np.testing.assert_allclose(most(np.float64(q)), want, rtol=1e-6)
    np.testing.assert_array_equal(most(np.array([0.0, 1.0])), [0, 1])


def _planted(x, y):
    x = x.copy()
    x[:150] = [0, 0, 2.5]  # on the boundary
    return x, y


def _heavy(x, y):
    x = x.copy()
    x[:, 2] = np.random.default_rng(0).standard_t(3, len(x)) / 3**0.5
    return x, y


def _far_labels(x, y):
    """Near the boundary all labels far along another axis are wrong, and more."""
    score = x @ W
    return x, np.where((np.abs(score) < 0.2) & (x[:, 2] ** 2 > 1), 1 - y, y)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda x, y: (x, y), True),
        (_far_labels, True),  # an adversary may choose labels, not examples
        (_planted, False),
        (_heavy, False),
        (lambda x, y: (x[:300], y[:300]), False),  # too few in the band
    ],
)
def test_what_is_refused(change, passes):
    x, y = change(*drawn())
    got = estimators.test_halfspace(x, y, np.float32(W), sigma=0.1)
    assert bool(got.accepted) is passes
    assert got.accepted == got.passes.all()


def test_learner_and_tester_together():
    x, y = drawn()
    found = estimators.tester_learner(x, y, jax.random.key(0), **QUICK)
    assert found.accepted
    assert found.error < 0.11
    assert found.tests.accepted.shape == (8,)
    bad = estimators.tester_learner(*_planted(x, y), jax.random.key(0), **QUICK)
    assert not bad.accepted


def test_extremes():
    x, y = np.float32(1e30) * drawn(200)[0], drawn(200)[1]
    fit = estimators.learn_halfspace(x, y, jax.random.key(0), **QUICK)
    assert np.isfinite(fit.direction).all()
    zero = np.zeros((60, 2), "f4")
    fit = estimators.learn_halfspace(zero, y[:60], jax.random.key(0), **QUICK)
    np.testing.assert_allclose(np.linalg.norm(fit.direction), 1, rtol=1e-5)


X, Y, KEY = np.zeros((3, 2)), np.zeros(3, int), jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimators.learn_halfspace(X, Y + 2, KEY),
            "labels other than 0 and 1",
        ),
        (
            lambda: estimators.learn_halfspace(X, Y, KEY, sigmas=()),
            "sigmas is empty, expected at least one",
        ),
        (
            lambda: estimators.learn_halfspace(X, Y, KEY, sigmas=(0.1, 0.0)),
            "sigmas is .*, expected above 0",
        ),
        (lambda: estimators.learn_halfspace(X, Y, KEY, starts=0), "starts is 0"),
        (lambda: estimators.learn_halfspace(X[0], Y, KEY), r"x has shape \(2,\)"),
        (
            lambda: estimators.test_halfspace(X, Y, np.zeros(3), sigma=0.1),
            r"w has shape \(3,\), expected \(2,\)",
        ),
        (
            lambda: estimators.test_halfspace(X, Y, np.ones(2), sigma=0.0),
            "sigma is 0.0, expected above 0",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
