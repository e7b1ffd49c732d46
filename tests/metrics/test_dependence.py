import jax
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import arrays, cases, close
from harness.interpreter import functions, interpreted

from logitlab import metrics
from logitlab.metrics import dependence

calls = functions(dependence)


def distances(x):
    x = np.reshape(x, (len(x), -1))
    return np.sqrt(np.square(x[:, None] - x[None]).sum(-1))


def centered(x):
    """The definition, with a loop."""
    a, n = distances(x), len(x)
    u = np.zeros_like(a)
    for i in range(n):
        for j in range(n):
            if i != j:
                u[i, j] = (a[i].sum() + a[:, j].sum()) / (n - 2) - a[i, j]
                u[i, j] -= a.sum() / ((n - 1) * (n - 2))
    return u


def covariance(x, y):
    return (centered(x) * centered(y)).sum() / (len(x) * (len(x) - 3))


@pytest.mark.parametrize("case", cases("dcov"))
def test_golden(x64, case):
    pred, a, b = arrays(case, "pred", "a", "b")
    outputs = case["outputs"]
    run = interpreted(jax.value_and_grad(dependence.distance_covariance))
    value, grad = run(pred, a)
    close(value, outputs["dcov2_pred_a"])
    np.testing.assert_allclose(grad, outputs["grad_dcov2_pred_a"], atol=1e-14)
    close(calls.distance_covariance(pred, b), outputs["dcov2_pred_b"])
    close(calls.distance_correlation(pred, a), outputs["dcor_pred_a"])


def test_against_loops(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=9)
    np.testing.assert_allclose(calls.u_center(x), centered(x), atol=1e-14)
    np.testing.assert_allclose(
        calls.distance_covariance(x, y), covariance(x, y), rtol=1e-12
    )
    a, b = (
        d - d.mean(0) - d.mean(1)[:, None] + d.mean() for d in map(distances, (x, y))
    )
    biased = calls.distance_covariance(x, y, unbiased=False)
    np.testing.assert_allclose(biased, (a * b).mean(), rtol=1e-12)
    want = covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y))
    np.testing.assert_allclose(calls.distance_correlation(x, y), want, rtol=1e-12)
    np.testing.assert_allclose(calls.distance_correlation(x, 3 - 2 * x), 1, rtol=1e-12)


def test_slopes(x64):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=9)
    for function in (
        dependence.u_center,
        lambda x: dependence.distance_covariance(x, y, unbiased=False),
        lambda x: dependence.distance_correlation(x, y),
    ):
        check_derivatives(function, x, order=1)


def test_mask_is_deleting(x64):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=9)
    keep = np.arange(9) % 4 != 1
    bad = np.where(keep[:, None], x, np.nan), np.where(keep, y, np.inf)
    for function in (
        calls.distance_covariance,
        calls.distance_correlation,
        lambda *args, **mask: calls.distance_covariance(*args, unbiased=False, **mask),
    ):
        got, want = function(*bad, mask=keep), function(x[keep], y[keep])
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert function(*bad, mask=keep & False) == 0
        assert function(x[:3], y[:3]) == 0 or function(x[:3], y[:3]) > 0  # no NaN


def test_float32_with_an_offset():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 64))
    got = calls.distance_covariance(np.float32(x + 1e3), np.float32(y))
    want = covariance(np.float32(x + 1e3).astype(float), np.float32(y).astype(float))
    size = np.sqrt(covariance(x, x) * covariance(y, y))
    assert abs(got - want) < 1e-5 * size


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_no_variance_is_no_correlation(x64, dtype):
    y = np.random.default_rng(3).normal(size=8).astype(dtype)
    rare = (np.arange(8) == 5).astype(dtype)  # all its centered distances are 0
    for x in (rare, 1e3 * rare, np.ones(8, dtype)):
        value, grad = interpreted(jax.value_and_grad(dependence.distance_correlation))(
            x, y
        )
        assert value == 0
        assert np.isfinite(grad).all()
        assert abs(calls.distance_covariance(x, y)) < 1e-3


def test_of_any_size():
    """Scales multiply, without a square that overflows or vanishes."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(8, 2)).astype("f4"), rng.normal(size=8).astype("f4")
    want, share = calls.distance_covariance(x, y), calls.distance_correlation(x, y)
    for scale in (1e-25, 1e25):
        big = x * np.float32(scale)
        np.testing.assert_allclose(
            calls.distance_covariance(big, y) / scale, want, rtol=1e-4
        )
        np.testing.assert_allclose(calls.distance_correlation(big, y), share, rtol=1e-4)


def test_errors():
    x = np.zeros((5, 2), "f4")
    with pytest.raises(TypeError, match="y has dtype int"):
        metrics.distance_covariance(x, np.arange(5))
    with pytest.raises(ValueError, match="y has 4 examples, expected those of x, 5"):
        metrics.distance_correlation(x, np.zeros(4, "f4"))
    with pytest.raises(ValueError, match=r"x has shape \(\), expected"):
        metrics.u_center(np.float32(0))
    with pytest.raises(ValueError, match="mask has shape"):
        metrics.u_center(x, mask=np.ones(4, bool))
