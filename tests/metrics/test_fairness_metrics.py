import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.interpreter import functions

from logitlab import metrics
from logitlab.metrics import fairness

calls = functions(fairness)
GROUPS = np.array([0, 0, 1, 3, 3, 3, 1, -1, 0])


def draw(seed):
    return np.random.default_rng(seed).normal(size=9)


def test_group_means(x64):
    x = draw(0)
    got = calls.group_means(x, GROUPS, num_groups=4)
    np.testing.assert_array_equal(got.count, [3, 2, 0, 3])
    for g in (0, 1, 3):
        np.testing.assert_allclose(
            got.sum[g] / got.count[g], x[g == GROUPS].mean(), rtol=1e-12
        )
    hits = calls.group_means(x > 0, GROUPS, num_groups=4)
    assert hits.sum.dtype == np.int32
    keep = x < 0.5
    parts = [
        calls.group_means(np.where(m, x, np.nan), GROUPS, num_groups=4, mask=m)
        for m in (keep, ~keep)
    ]
    np.testing.assert_allclose((parts[0] + parts[1]).sum, got.sum, rtol=1e-12)


def test_equal_opportunity():
    yes = np.array([1, 0, 1, 1, 1, 0, 1, 0, 1])
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0])
    run = calls.equal_opportunity
    want = (1 / 2) / 1  # rates 1/2, 1/1 and 2/3; the group 2 is empty
    np.testing.assert_allclose(run(yes, labels, GROUPS, num_groups=4), want, rtol=1e-6)
    got = run(yes == 1, labels, GROUPS, num_groups=4, mask=GROUPS != 0)
    np.testing.assert_allclose(got, 2 / 3, rtol=1e-6)
    for mask in (labels == 0, labels < 0):  # no positive label, nothing at all
        assert run(yes, labels, GROUPS, num_groups=4, mask=mask) == 1
    assert run(0 * yes, labels, GROUPS, num_groups=4) == 1
    unknown = np.where(GROUPS == 0, -1, labels)
    np.testing.assert_allclose(
        run(yes, unknown, GROUPS, num_groups=4), 2 / 3, rtol=1e-6
    )


def divergence(p, groups, weights, h=0.15):
    """The definition in densities, with entropies in bits."""
    grid = np.linspace(p.min(), p.max(), 1000)
    f, share = [], []
    for g in np.unique(groups):
        mine = p[groups == g]
        density = np.exp(-np.square((grid[:, None] - mine[None]) / h) / 2).sum(-1)
        f.append(density / density.sum())
        share.append(len(mine) if weights == "share" else 1)
    f, share = np.array(f), np.array(share) / np.sum(share)

    def entropy(q):
        return -(q * np.log2(np.where(q > 0, q, 1))).sum(-1)

    return entropy((share[:, None] * f).sum(0)) - (share * entropy(f)).sum()


@pytest.mark.parametrize("weights", ["share", "equal"])
def test_group_jsd(x64, weights):
    p, known = 1 / (1 + np.exp(-draw(1))), GROUPS >= 0
    options = dict(num_groups=4, weights=weights)
    got = calls.group_jsd(np.where(known, p, np.nan), GROUPS, **options)
    np.testing.assert_allclose(got, divergence(p[known], GROUPS[known], weights), 1e-10)
    # Far from any kernel densities are below what a number can be: still a divergence.
    far = np.where(GROUPS == 1, 1e6, p)
    value = calls.group_jsd(far, GROUPS, mask=known & (GROUPS < 2), **options)
    share = np.array([3, 2]) / 5 if weights == "share" else np.ones(2) / 2
    np.testing.assert_allclose(value, -(share * np.log2(share)).sum(), rtol=1e-6)
    assert calls.group_jsd(np.ones(9), GROUPS, **options) < 1e-12
    assert calls.group_jsd(p, GROUPS, mask=known & False, **options) == 0
    assert calls.group_jsd(p[:0], GROUPS[:0], **options) == 0


def test_uf_index(x64):
    p, known = draw(2), GROUPS >= 0
    means = [p[g == GROUPS].mean() for g in (0, 1, 3)]
    want = np.var(means, ddof=1) / np.var(p[known], ddof=1)
    bad = np.where(known, p, np.nan)
    np.testing.assert_allclose(calls.uf_index(bad, GROUPS, num_groups=4), want, 1e-12)
    got = calls.uf_index((p + 1e4).astype("f4"), GROUPS, num_groups=4)
    np.testing.assert_allclose(got, want, rtol=1e-3)
    for mask in (GROUPS == 0, known & False):
        assert calls.uf_index(p, GROUPS, num_groups=4, mask=mask) == 0
    assert calls.uf_index(np.ones(9), GROUPS, num_groups=4) == 0


def test_slopes(x64):
    p, groups = draw(3), dict(groups=GROUPS, num_groups=4)
    for function in (
        lambda p: metrics.group_means(p, **groups).sum,
        lambda p: metrics.uf_index(p, **groups),
        lambda p: metrics.group_jsd(p, points=50, **groups),
    ):
        check_derivatives(function, p, order=1)


def test_errors():
    p, two = np.zeros(9, "f4"), dict(num_groups=2)
    with pytest.raises(
        ValueError, match="groups reach 3, expected below num_groups, 2"
    ):
        metrics.group_means(p, GROUPS, **two)
    assert metrics.group_means(p, GROUPS, mask=GROUPS < 2, **two).count.sum() == 5
    with pytest.raises(ValueError, match="num_groups is 0, expected at least 1"):
        metrics.uf_index(p, GROUPS, num_groups=0)
    with pytest.raises(TypeError, match="num_groups is 1.5, expected a Python integer"):
        metrics.group_means(p, GROUPS, num_groups=1.5)
    with pytest.raises(TypeError, match="predictions has dtype float32, expected dec"):
        metrics.equal_opportunity(p, GROUPS > 0, GROUPS, num_groups=4)
    with pytest.raises(ValueError, match="labels other than 0 and 1"):
        metrics.equal_opportunity(p > 0, GROUPS, GROUPS, num_groups=4)
    with pytest.raises(ValueError, match="weights is 'size', expected 'share'"):
        metrics.group_jsd(p, GROUPS, num_groups=4, weights="size")
    with pytest.raises(ValueError, match="bandwidth is 0"):
        metrics.group_jsd(p, GROUPS, num_groups=4, bandwidth=0)
    with pytest.raises(TypeError, match="values has dtype int"):
        metrics.group_means(jnp.arange(9), GROUPS, num_groups=4)
    with pytest.raises(ValueError, match="groups has shape"):
        metrics.group_jsd(p, GROUPS[:3], num_groups=4)
