import itertools

import jax
import numpy as np
import pytest
from harness.interpreter import functions
from sklearn import metrics as theirs

from logitlab import metrics
from logitlab.metrics import selective

calls = functions(selective)
DETECTION = [calls.auroc, calls.aupr, calls.fpr_at_tpr]


def draw(seed, n, m, ties=False):
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=n) + 1, rng.normal(size=m)
    return (s.round(1), t.round(1)) if ties else (s, t)


def of_scikit_learn(s, t):
    y, scores = np.repeat([1, 0], [len(s), len(t)]), np.concatenate([s, t])
    threshold = np.percentile(s, 5)
    return [
        theirs.roc_auc_score(y, scores),
        theirs.average_precision_score(y, scores),
        (t >= threshold).mean(),
    ]


@pytest.mark.parametrize("ties", [False, True])
def test_detection_matches_scikit_learn(x64, ties):
    s, t = draw(0, 150, 90, ties)
    got = [score(s, t) for score in DETECTION]
    np.testing.assert_allclose(got, of_scikit_learn(s, t), 1e-12)
    # Any shape, and a mask selects.
    s, t = s.reshape(10, 15), t.reshape(3, 30)
    inside, outside = np.arange(10)[:, None] % np.arange(2, 17) > 0, t > -1
    masks = dict(inside_mask=inside, outside_mask=outside)
    got = [
        score(np.where(inside, s, np.nan), np.where(outside, t, np.inf), **masks)
        for score in DETECTION
    ]
    np.testing.assert_allclose(got, of_scikit_learn(s[inside], t[outside]), 1e-12)


def test_auroc_counts_pairs():
    s, t = np.float32([0, 1, 2, np.inf]), np.float32([1, 1, -np.inf])
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(s, t)]
    np.testing.assert_allclose(calls.auroc(s, t), np.mean(pairs), 1e-6)
    np.testing.assert_allclose(calls.auroc(t, s), 1 - np.mean(pairs), 1e-6)
    assert calls.auroc(np.zeros(7, "f4"), np.zeros(4, "f4")) == 0.5
    signs = np.float32([0, -0.0]), np.float32([-0.0, 0, 0])  # all of them equal
    assert calls.auroc(*signs) == 0.5
    assert calls.aupr(*signs) == np.float32(0.4)


def test_detection_edges():
    none, some = np.zeros(0, "f4"), np.float32([1, 2])
    for s, t in ((none, some), (some, none), (none, none)):
        assert calls.auroc(s, t) == 0.5
        assert calls.fpr_at_tpr(s, t) == 0
        assert calls.aupr(s, t) == float(len(s) > 0)
    gone = dict(inside_mask=np.zeros(2, bool))
    got = [score(some, some, **gone) for score in DETECTION]
    assert got == [0.5, 0, 0]
    broken = np.float32([1, np.nan])
    for score in DETECTION:
        assert np.isnan(score(broken, some))
        assert np.isnan(score(some, broken))


def curve(s, e):
    """Mean over all orders of equal scores of the cumulated error rates."""
    order = np.argsort(-s, kind="stable")
    s, e = s[order], e[order].astype(float)
    for value in np.unique(s):
        e[s == value] = e[s == value].mean()
    return np.cumsum(e) / np.arange(1, len(e) + 1)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_risk_coverage(x64, kind):
    rng = np.random.default_rng(1)
    s = rng.normal(size=120).round(1)
    e = rng.uniform(size=120) < 0.3 if kind == "bool" else rng.exponential(size=120)
    got = calls.risk_coverage(s, e)
    np.testing.assert_allclose(got.risk, curve(s, e), 1e-12)
    np.testing.assert_allclose(got.coverage, np.arange(1, 121) / 120, 1e-15)
    np.testing.assert_allclose(calls.aurc(s, e), curve(s, e).mean(), 1e-12)
    best = np.cumsum(np.sort(e)) / np.arange(1, 121)
    want = curve(s, e).mean() - best.mean()
    np.testing.assert_allclose(calls.excess_aurc(s, e), want, 1e-12)
    mask = rng.uniform(size=120) < 0.7
    hidden = np.where(mask, s, np.nan)
    got = calls.risk_coverage(hidden, e, mask=mask)
    want, n = curve(s[mask], e[mask]), mask.sum()
    np.testing.assert_allclose(got.risk[:n], want, 1e-12)
    np.testing.assert_allclose(got.risk[n:], want[-1], 1e-12)
    assert (got.coverage[n:] == 1).all()
    np.testing.assert_allclose(calls.aurc(hidden, e, mask=mask), want.mean(), 1e-12)


def test_risk_edges():
    s, e = np.float32([3, 2, 1, 0]), np.array([False, False, True, False])
    flat = calls.aurc(np.zeros(4, "f4"), e)
    np.testing.assert_allclose(flat, 0.25)  # the error rate
    assert calls.aurc(s, e, mask=np.zeros(4, bool)) == 0
    assert calls.excess_aurc(-e.astype("f4"), e) == 0
    assert np.isnan(calls.risk_coverage(np.full(2, np.nan, "f4"), e[:2]).risk).all()
    # The best score has r + (1 - r) log(1 - r), for many examples.
    many = np.arange(5000) < 1000
    best = calls.aurc(-many.astype("f4"), many)
    np.testing.assert_allclose(best, 0.2 + 0.8 * np.log(0.8), 1e-2)


def test_thresholds_add_up():
    rng = np.random.default_rng(2)
    s, e = rng.normal(size=(6, 50)).astype("f4"), rng.uniform(size=(6, 50)) < 0.3
    grid = np.float32([-1, 0, 1, 9])
    whole = calls.risk_at_thresholds(s, e, grid)
    parts = [calls.risk_at_thresholds(a, b, grid) for a, b in zip(s, e, strict=True)]
    total = jax.tree.map(lambda *a: sum(a), *parts)
    for a, b in zip(total, whole, strict=True):
        assert a.dtype == b.dtype == np.int32
        np.testing.assert_array_equal(a, b)
    for t, risk, count in zip(grid[:3], whole.value, whole.count, strict=False):
        assert count == (s >= t).sum()
        np.testing.assert_allclose(risk, e[s >= t].mean(), 1e-6)
    assert np.isnan(whole.value[3])
    mask = s > -0.5
    masked = calls.risk_at_thresholds(np.where(mask, s, np.nan), e, grid, mask=mask)
    assert masked.count[0] == mask.sum()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: metrics.auroc(s > 0, s), TypeError, "inside has dtype bool"),
        (
            lambda s: metrics.auroc(s, s, outside_mask=np.ones(2, bool)),
            ValueError,
            r"outside_mask has shape \(2,\), expected \(3,\)",
        ),
        (lambda s: metrics.fpr_at_tpr(s, s, tpr=95), ValueError, "tpr is 95, expected"),
        (
            lambda s: metrics.risk_coverage(s, s[:2]),
            ValueError,
            r"errors has shape \(2,\), expected that of scores, \(3,\)",
        ),
        (
            lambda s: metrics.risk_coverage(s[None], s[None]),
            ValueError,
            r"scores has shape \(1, 3\), expected one axis",
        ),
        (lambda s: metrics.aurc(s, s, mask=s), TypeError, "mask has dtype float32"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros(3, "f4"))
