import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import goldens
from harness.derivatives import check_derivatives
from harness.interpreter import functions, interpreted

from logitlab import metrics
from logitlab.metrics import anomaly

calls = functions(anomaly)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def scores_of(z, first, last):
    """Mutual scores by their definition."""
    n = len(z)
    d = np.linalg.norm(z[:, :, None, None] - z[None, None], axis=-1).min(-1)
    rest = [np.sort(np.delete(d[i], i, 1), 1)[:, first:last] for i in range(n)]
    return np.stack(rest).mean(-1)


@pytest.mark.parametrize("case", goldens.cases("musc_msm"))
def test_mutual_scores_golden(x64, case):
    (z,), params = goldens.arrays(case, "patch_features"), case["params"]
    fractions = dict(frac_min=params["top_min"], frac_max=params["top_max"])
    got = calls.mutual_scores(z, **fractions)
    goldens.close(got, case["outputs"]["patch_scores"])
    check_derivatives(lambda z: metrics.mutual_scores(z, **fractions), z, order=1)


@pytest.mark.parametrize("case", goldens.cases("musc_rscin"))
def test_rescored_golden(x64, case):
    scores, tokens = goldens.arrays(case, "scores", "class_tokens")
    ks = case["params"]["k_list"]
    got = calls.rescore_by_neighborhood(scores, tokens, ks=ks)
    goldens.close(got, case["outputs"]["rescored"])
    again = calls.rescore_by_neighborhood(1e30 * scores, 1e-30 * tokens, ks=ks)
    goldens.close(again, got, 1e-12)


@pytest.mark.parametrize(
    ("fractions", "images", "first", "last"),
    [
        ((0.0, 0.29), 101, 0, 29),  # 28.999999999999996 in binary
        ((0.0, 0.3), 3, 0, 1),  # at least one image
        ((0.2, 0.3), 6, 1, 2),  # also where both ends round down to the same
        ((0.0, 1.0), 5, 0, 4),
        ((1.0 - 1e-3, 1.0), 2, 0, 1),
    ],
)
def test_how_many_images_are_averaged(x64, fractions, images, first, last):
    z = draw(0, images, 2, 3)
    low, high = fractions
    got = metrics.mutual_scores(z, frac_min=low, frac_max=high)
    np.testing.assert_allclose(got, scores_of(z, first, last), 1e-12)


def test_a_mask_of_images():
    z, s, t = draw(1, 7, 4, 3), draw(2, 7), draw(3, 7, 5)
    keep = np.arange(7) % 3 != 1
    spoiled = [a.astype("f4") for a in (z, s, t)]
    for a in spoiled:
        a[~keep] = np.nan
    for name, arrays in (
        ("mutual_scores", spoiled[:1]),
        ("rescore_by_neighborhood", spoiled[1:]),
    ):
        call, function = getattr(calls, name), getattr(metrics, name)
        got = call(*arrays, mask=keep)
        want = call(*(a[keep] for a in arrays))
        np.testing.assert_allclose(got[keep], want, 1e-5, 1e-6)
        assert (got[~keep] == 0).all()
        slope = jax.grad(functools.partial(_total, function, keep))
        assert np.isfinite(interpreted(slope)(*arrays)).all()


def _total(function, keep, *arrays):
    return function(*arrays, mask=keep).sum()


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_neighborhoods_are_their_definition(x64, degree):
    x, r = draw(4, 2, 4, 5, 3), degree // 2
    axes = (1, 2, 3)
    normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(
        x.var(axes, keepdims=True) + 1e-5
    )
    padded = np.pad(normal, ((0, 0), (r, r), (r, r), (0, 0)))
    want = np.zeros_like(x)
    for i in range(degree):
        for j in range(degree):
            want += padded[:, i : i + 4, j : j + 5] / degree**2
    want = want / np.linalg.norm(want, axis=-1, keepdims=True)
    got = calls.local_neighborhood_aggregate(x, degree=degree)
    np.testing.assert_allclose(got, want.reshape(2, 20, 3), 1e-10)
    alone = calls.local_neighborhood_aggregate(x[0], degree=degree)
    np.testing.assert_allclose(alone, got[0], 1e-12)


def test_extreme_features():
    x = draw(5, 3, 2, 2, 4).astype("f4")
    huge, flat = np.float32(1e30) * x, np.ones_like(x)
    small = calls.local_neighborhood_aggregate(10 * x, degree=3)
    np.testing.assert_allclose(
        calls.local_neighborhood_aggregate(huge, degree=3), small, 1e-4, 1e-5
    )
    assert (calls.local_neighborhood_aggregate(flat, degree=3) == 0).all()
    patches = huge.reshape(3, 4, 4)
    np.testing.assert_allclose(
        calls.mutual_scores(patches),
        1e30 * calls.mutual_scores(x.reshape(3, 4, 4)),
        1e-5,
    )
    same = np.repeat(patches[:1], 3, 0)
    total = jax.value_and_grad(lambda z: metrics.mutual_scores(z).sum())
    value, grad = interpreted(total)(same)
    assert value == 0
    assert (grad == 0).all()
    half = jnp.asarray(x.reshape(3, 4, 4), jnp.bfloat16)
    half = jax.eval_shape(metrics.mutual_scores, half)
    assert half.dtype == jnp.float32


def test_distances_far_from_the_origin():
    z = draw(6, 4, 3, 2)
    got = calls.mutual_scores(np.float32(z + 100))
    np.testing.assert_allclose(got, scores_of(np.float32(z + 100), 0, 1), 1e-4)


def test_degenerate_sets():
    one = calls.mutual_scores(np.ones((1, 2, 3), "f4"))
    np.testing.assert_array_equal(one, np.zeros((1, 2)))
    t = draw(7, 4, 3).astype("f4")
    np.testing.assert_array_equal(
        calls.rescore_by_neighborhood(np.full(4, 7.0, "f4"), t), 0
    )
    s = np.float32([0, 1, 2, 4])
    alone = calls.rescore_by_neighborhood(s, t, ks=(1,))
    np.testing.assert_allclose(alone, s / 4, 1e-6)
    for tokens in (np.zeros_like(t), np.repeat(t[:1], 4, 0)):
        got = calls.rescore_by_neighborhood(s, tokens, ks=(1, 4))
        assert np.isfinite(got).all()
    opposite = np.float32([[1, 0], [-1, 0], [1, 0], [-1, 0]])
    got = calls.rescore_by_neighborhood(s, opposite, ks=(4,))  # none is negative
    np.testing.assert_allclose(got, [0.25, 0.625, 0.25, 0.625], 1e-6)
    none = np.zeros(4, bool)
    assert (calls.rescore_by_neighborhood(s, t, mask=none) == 0).all()
    assert (calls.mutual_scores(t[:, None], mask=none) == 0).all()


def test_errors():
    z, s = np.zeros((4, 2, 3), "f4"), np.zeros(4, "f4")
    for fractions, message in [
        ((-0.1, 0.3), "frac_min is -0.1, expected in"),
        ((0.3, 0.3), "frac_max is 0.3, expected above frac_min, 0.3"),
        ((0.0, 1.5), "frac_max is 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            metrics.mutual_scores(z, frac_min=fractions[0], frac_max=fractions[1])
    with pytest.raises(ValueError, match=r"patch_features has shape \(2, 3\)"):
        metrics.mutual_scores(z[0])
    with pytest.raises(ValueError, match="mask has shape"):
        metrics.mutual_scores(z, mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="degree is 2, expected an odd number"):
        metrics.local_neighborhood_aggregate(z, degree=2)
    with pytest.raises(ValueError, match=r"features has shape \(2, 3\)"):
        metrics.local_neighborhood_aggregate(z[0], degree=1)
    for ks, message in [
        ((), "ks is empty"),
        ((0,), "ks is 0, expected at least 1"),
        ((1, 5), r"ks is \(1, 5\), expected at most 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            metrics.rescore_by_neighborhood(s, z[:, 0], ks=ks)
    with pytest.raises(ValueError, match="expected \\[N\\] and \\[N, C\\]"):
        metrics.rescore_by_neighborhood(s[:3], z[:, 0])
