import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import value_and_grad
from harness.interpreter import functions
from scipy.special import softmax

from logitlab import estimators, losses
from logitlab.decisions import (
    conformal,
    conformal_scores,
    conformal_set,
    conformal_threshold,
)

calls = functions(conformal)
KINDS = ["lac", "log_odds", "aps", "raps"]


def draw(seed, *shape, scale=2.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def oracle(z, kind, u=1.0, lam=0.3, k_reg=2):
    p = softmax(z)
    above = np.array([p[z > v].sum() for v in z])
    rank = np.array([1 + (z > v).sum() for v in z])
    return {
        "lac": 1 - p,
        "log_odds": np.log((1 - p) / p),
        "aps": above + u * p,
        "raps": above + u * p + lam * np.maximum(rank - k_reg, 0),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_scores(x64, kind):
    z = draw(0, 6, 5)
    z[0, :3] = z[0, 1]  # equal logits have equal scores
    more = dict(kind=kind, lam=0.3, k_reg=2)
    want = np.array([oracle(row, kind) for row in z])
    np.testing.assert_allclose(calls.conformal_scores(z, **more), want, 1e-9)
    moved = calls.conformal_scores(z.T, axis=0, **more)
    np.testing.assert_allclose(moved, want.T, 1e-9)
    where = np.array([True, True, False, True, True])
    got = calls.conformal_scores(z, where=where[None], **more)
    want = np.array([oracle(row[where], kind) for row in z])
    np.testing.assert_allclose(got[:, where], want, 1e-9)
    assert (got[:, ~where] == np.inf).all()
    key = jax.random.key(3)
    u = jax.random.uniform(key, (6,), "f8")
    got = calls.conformal_scores(z, key=key, **more)
    want = [oracle(row, kind, v) for row, v in zip(z, np.asarray(u), strict=True)]
    np.testing.assert_allclose(got, want, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes(x64, kind):
    z, hidden = draw(7, 6, 5), np.array([False, True, False, False, False])
    p = softmax(np.where(hidden, -np.inf, z), -1)
    above = z[:, :, None] < z[:, None]  # of the last class over the one before
    weights = {
        "lac": -np.eye(5)[None] * ~hidden,
        "log_odds": -np.eye(5)[None] * ~hidden / (p * (1 - p) + hidden)[:, None],
        "aps": above * ~hidden[:, None] + np.eye(5)[None] * ~hidden,
        "raps": above * ~hidden[:, None] + np.eye(5)[None] * ~hidden,
    }[kind]
    slope = (weights * ~hidden).sum(1)  # of the sum of all scores in p
    want = p * (slope - (p * slope).sum(-1, keepdims=True))

    def shown(z):
        scores = conformal_scores(z, kind=kind, where=~hidden[None])
        return jnp.where(hidden[None], 0, scores)

    value, got = value_and_grad(shown, z)
    scores = [oracle(row[~hidden], kind, lam=0.01, k_reg=5) for row in z]
    np.testing.assert_allclose(value[:, ~hidden], scores, 1e-9)
    np.testing.assert_allclose(got, want, 1e-8, 1e-12)


def test_confident_examples_keep_an_order():
    z = np.float32([[45, 0, -3], [46, 0, -3], [60, 0, -3]])
    rest = np.exp(-z[:, 0].astype("f8")) * (1 + np.exp(-3))
    for kind in ("lac", "aps"):
        got = calls.conformal_scores(z, kind=kind, k_reg=1)[:, 0]
        want = rest if kind == "lac" else 1 - rest
        np.testing.assert_allclose(got, want, 1e-5)
    odds = calls.conformal_scores(z, kind="log_odds")
    np.testing.assert_allclose(odds[:, 0], np.log(rest), 1e-6)
    np.testing.assert_allclose(odds[:, 1:], z[:, :1] - z[:, 1:], 1e-6)
    big = np.float32([[1e30, -1e30, 0], [0, 0, 0]])
    for kind in KINDS:
        scores = calls.conformal_scores(big, kind=kind)
        assert not np.isnan(scores).any()
        assert (calls.conformal_set(scores, np.float32(np.inf)) | (big == -1e30)).all()


def rank(n, alpha_in_tenths):
    """ceil((n + 1)(1 - alpha)) in integers."""
    return -(-(n + 1) * (10 - alpha_in_tenths) // 10)


@pytest.mark.parametrize("tenths", range(10))
def test_coverage_by_enumeration(tenths):
    """Of n + 1 scores each is as likely as any other to be the new one."""
    alpha = tenths / 10
    for n in (1, 4, 9, 10, 19):
        s = np.random.default_rng(n).permutation(n + 1).astype("f4")
        others = np.array([np.delete(s, i) for i in range(n + 1)])
        threshold = calls.conformal_threshold(others, alpha=alpha)
        for held_out, q in zip(others, threshold, strict=True):
            k = max(rank(n, tenths), 1)
            assert q == (np.sort(held_out)[k - 1] if k <= n else np.inf)
        covered = np.mean(s <= threshold)
        assert 1 - alpha - 1e-12 <= covered <= 1 - alpha + 1 / (n + 1) + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_of_sets_by_enumeration(x64, kind):
    """Each of n + 1 examples once as the new one, from logits to its set."""
    n, z = 19, draw(6, 20, 4)
    y = np.where(np.arange(20) % 3 > 0, z.argmax(-1), z.argmin(-1))
    hidden = np.arange(4) == (y[:, None] + 1) % 4
    scores = calls.conformal_scores(z, kind=kind, key=jax.random.key(0), where=~hidden)
    others = [np.delete(np.arange(n + 1), i) for i in range(n + 1)]
    held_out = scores[np.array(others)], y[np.array(others)]
    for tenths in range(10):
        q = calls.conformal_threshold(*held_out, alpha=tenths / 10)
        sets = calls.conformal_set(scores, q)
        assert not (sets & hidden).any()
        assert sets[np.arange(n + 1), y].sum() == rank(n, tenths)


def test_sets_cover_and_hide():
    z, y = draw(1, 40, 4).astype("f4"), np.random.default_rng(2).integers(0, 4, 40)
    y = np.where(np.arange(40) % 2, z.argmax(-1), y)
    for kind in KINDS:
        scores = calls.conformal_scores(z, kind=kind)
        q = calls.conformal_threshold(scores, y, alpha=0.25)
        sets = calls.conformal_set(scores, q)
        hit = np.take_along_axis(sets, y[:, None], 1)[:, 0]
        assert hit.sum() == rank(40, 2.5)  # no two of these scores are equal
        np.testing.assert_array_equal(calls.conformal_set(scores.T, q, axis=0), sets.T)
    # The set of all that may be the label, for a loss.
    sets |= np.arange(4) == y[:, None]
    got = losses.cross_entropy(z, y, where=sets)
    weights = np.where(sets, np.exp(z), 0)
    want = -np.log(weights[np.arange(40), y] / weights.sum(-1))
    np.testing.assert_allclose(got, want, 1e-5, 1e-6)


def test_log_odds_make_the_sets_of_lac(x64):
    z = draw(3, 30, 4)
    y = z.argmax(-1) * (np.arange(30) % 3 > 0)
    sets = []
    for kind in ("lac", "log_odds"):
        scores = calls.conformal_scores(z, kind=kind)
        q = calls.conformal_threshold(scores, y, alpha=0.2)
        sets.append(calls.conformal_set(scores, q))
    np.testing.assert_array_equal(*sets)


def test_groups_are_fitted_apart():
    rng = np.random.default_rng(4)
    s, g = rng.normal(size=(2, 60)).astype("f4"), rng.integers(0, 3, (2, 60))
    mask = rng.uniform(size=(2, 60)) < 0.8
    more = dict(mask=mask, groups=g, num_groups=5)
    got = calls.conformal_threshold(np.where(mask, s, np.nan), alpha=0.2, **more)
    assert got.shape == (2, 5)
    for row in range(2):
        for group in range(3):
            kept = s[row][mask[row] & (g[row] == group)]
            alone = calls.conformal_threshold(kept, alpha=0.2)
            assert got[row, group] == alone
    assert (got[:, 3:] == np.inf).all()  # nobody is in these
    scores = rng.normal(size=(60, 4)).astype("f4")
    sets = calls.conformal_set(scores, got[0], groups=g[0])
    np.testing.assert_array_equal(sets, scores <= got[0][g[0]][:, None])
    each = calls.conformal_set(scores, got[0][g[0]])
    np.testing.assert_array_equal(each, sets)


def test_edges():
    s = np.float32([0.1, 0.2, 0.3])
    assert calls.conformal_threshold(s, alpha=0.0) == np.inf
    assert calls.conformal_threshold(s[:0], alpha=0.5) == np.inf
    assert calls.conformal_threshold(s, alpha=0.5, mask=np.zeros(3, bool)) == np.inf
    assert calls.conformal_threshold(s, alpha=0.99) == np.float32(0.1)
    # 20 * (1 - .95) is not 1 in binary.
    assert calls.conformal_threshold(np.arange(19, dtype="f4"), alpha=0.05) == 18
    assert calls.conformal_threshold(np.arange(18, dtype="f4"), alpha=0.05) == np.inf
    scores = np.float32([[0.1, 0.9, np.inf]])  # the last is hidden
    everything = calls.conformal_set(scores, np.float32(np.inf))
    np.testing.assert_array_equal(everything, [[True, True, False]])
    assert calls.conformal_set(np.full((1, 2), np.nan, "f4"), np.float32(0)).all()
    # No label, and a NaN, count as the strangest.
    z = np.float32([[0.1, 0.9], [0.3, 0.7], [np.nan, np.nan]])
    y = np.array([0, 0, 0])
    assert calls.conformal_threshold(z, y, alpha=0.5) == np.float32(0.3)
    assert calls.conformal_threshold(z[:2], np.array([-1, 0]), alpha=0.4) == np.inf
    far = jax.jit(lambda g: conformal_set(scores, s, groups=g))(jnp.array([7]))
    np.testing.assert_array_equal(far, everything)


def test_one_vocabulary_for_regression():
    s = draw(5, 2, 30).astype("f4")
    want = calls.conformal_threshold(s, alpha=0.1)
    got = functions(estimators).cqr_calibrate(s, 0.1)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(want, np.sort(s)[:, rank(30, 1) - 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: conformal_scores(s, kind="x"), ValueError, "kind is 'x', expected"),
        (lambda s: conformal_scores(s, lam=-1.0), ValueError, "lam is -1.0, expected"),
        (
            lambda s: conformal_threshold(s, alpha=1.0),
            ValueError,
            r"alpha is 1.0, expected a number in \[0, 1\)",
        ),
        (lambda s: conformal_threshold(s, alpha=-0.1), ValueError, "alpha is -0.1"),
        (lambda s: conformal_threshold(s, alpha=np.nan), ValueError, "alpha is nan"),
        (
            lambda s: jax.jit(lambda a: conformal_threshold(s, alpha=a))(0.1),
            TypeError,
            r"alpha is .*, expected a Python number in \[0, 1\)",
        ),
        (
            lambda s: conformal_threshold(
                s[0], alpha=0.1, groups=np.array([0, 0, 0]), num_groups=0
            ),
            ValueError,
            "num_groups is 0, expected at least 1",
        ),
        (
            lambda s: conformal_threshold(np.float32(1), alpha=0.1),
            ValueError,
            r"scores has shape \(\), expected an axis of examples",
        ),
        (
            lambda s: conformal_threshold(s, np.array([0, 3]), alpha=0.1),
            ValueError,
            "labels outside",
        ),
        (
            lambda s: conformal_threshold(s[0], alpha=0.1, groups=np.array([0, 0, 2])),
            ValueError,
            "num_groups is None, expected the number of groups",
        ),
        (
            lambda s: conformal_threshold(
                s[0], alpha=0.1, groups=np.array([0, -1, 2]), num_groups=2
            ),
            ValueError,
            r"groups outside \[0, 2\): \[-1  2\]",
        ),
        (
            lambda s: conformal_set(s, s[0], groups=np.array([0, 3])),
            ValueError,
            r"groups outside \[0, 3\): \[3\]",
        ),
        (
            lambda s: conformal_set(s, s[0]),
            ValueError,
            r"threshold has shape \(3,\), expected \(\) or \(2,\)",
        ),
        (
            lambda s: conformal_set(s, s[0], groups=np.zeros(2)),
            TypeError,
            "groups has dtype float",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), "f4"))
