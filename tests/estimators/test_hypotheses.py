import jax
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import interpreted
from scipy import optimize, stats

from logitlab import estimators
from logitlab.estimators import hypotheses

LAWS = [(10.0, 5.0, 0.1), (1.0, 0.0, 2.0), (40.0, 300.0, 0.01), (3.0, 0.5, 1.0)]


@pytest.mark.parametrize("case", cases("inductive_bias"))
def test_golden(x64, case):
    eps, df, nc, scale = (
        case["params"][name] for name in ("target_error", "df", "nc", "scale")
    )
    got = estimators.neg_log_ncx2_cdf(np.float64(eps), df, nc, scale)
    close(got, case["outputs"]["neg_log_prob"])
    z = hypotheses._sankaran(np.float64(eps) / scale, df, nc)
    close(z**2 / 2, case["outputs"]["approx_neg_log_prob"])


def test_cdf_against_scipy(x64):
    run = jax.jit(estimators.neg_log_ncx2_cdf)
    for df, nc, scale in LAWS:
        law = stats.ncx2(df, nc, scale=scale) if nc else stats.chi2(df, scale=scale)
        eps = law.ppf([1e-30, 1e-9, 0.01, 0.5, 0.99])
        got = run(eps, df, nc, scale)
        np.testing.assert_allclose(got, -np.log(law.cdf(eps)), rtol=1e-8)
        single = run(eps.astype("f4"), df, nc, scale)
        assert single.dtype == np.float32
        some = eps > 1e-30  # what is a number in float32
        np.testing.assert_allclose(single[some], got[some], rtol=1e-3, atol=1e-5)
    # Where the chance itself is no number any more, it goes on growing.
    far = np.asarray(run(np.array([1e-40, 1e-30, 1e-3]), 200.0, 50.0, 1.0))
    slopes = np.diff(far) / np.diff(np.log([1e-40, 1e-30, 1e-3]))
    np.testing.assert_allclose(slopes, -100, rtol=1e-4)


def test_slope_of_the_cdf(x64):
    for df, nc, scale in LAWS[:3]:
        law = stats.ncx2(df, nc, scale=scale) if nc else stats.chi2(df, scale=scale)
        eps = law.ppf([1e-9, 0.01, 0.5, 0.99])
        bias = lambda e: estimators.neg_log_ncx2_cdf(e, df, nc, scale)  # noqa: B023, E731
        slope = jax.jit(jax.vmap(jax.grad(bias)))(eps)
        np.testing.assert_allclose(slope, -law.pdf(eps) / law.cdf(eps), rtol=1e-8)


def test_approximation(x64):
    """Numbers of the same law at several errors; the exact ones are SciPy's."""
    eps = np.array([0.5, 0.85, 1.3, 2.6, 4.0])
    exact = -stats.ncx2.logcdf(eps / 0.1, 10.0, 5.0)
    run = interpreted(
        lambda e: estimators.neg_log_ncx2_cdf(e, 10.0, 5.0, 0.1, approximate=True)
    )
    np.testing.assert_allclose(run(eps), exact, rtol=0.02, atol=1e-4)


def test_edges_of_the_cdf():
    run = estimators.neg_log_ncx2_cdf
    np.testing.assert_array_equal(
        run(np.float32([-1, 0]), 3.0, 1.0, 1.0), [np.inf, np.inf]
    )
    point = run(np.float32([0.4, 0.5, 2]), np.inf, 0.0, 0.5)
    np.testing.assert_array_equal(point, [np.inf, 0, 0])
    assert 0 <= run(np.float32(1e6), 3.0, 1.0, 1.0) < 1e-6
    with pytest.raises(ValueError, match="df is 0, expected above 0"):
        run(np.float32(1), 0, 1, 1)
    with pytest.raises(ValueError, match="nc is -1, expected at least 0"):
        run(np.float32(1), 1, -1, 1)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("df", "nc", "scale"), LAWS)
def test_fit_is_as_likely_as_scipys(x64, df, nc, scale):
    rng = np.random.default_rng(0)
    errors = scale * (
        rng.noncentral_chisquare(df, nc, 60) if nc else rng.chisquare(df, 60)
    )
    fit = estimators.fit_scaled_ncx2(errors)

    def mean_nll(log):
        k, lam, s = np.exp(np.clip(log, np.log(1e-6), np.log(2e3)))
        return -stats.ncx2.logpdf(errors, k, lam, scale=s).mean()

    starts = [np.log([df, max(nc, 0.1), scale]), np.log([fit.df, fit.nc, fit.scale])]
    best = min(
        optimize.minimize(mean_nll, s, method="Nelder-Mead", tol=1e-9).fun
        for s in starts
    )
    assert -fit.log_likelihood <= best + 1e-6
    ours = mean_nll(np.log([fit.df, fit.nc, fit.scale]))
    np.testing.assert_allclose(-fit.log_likelihood, ours, rtol=1e-9)
    # In other units the law is the same, but for its scale.
    other = estimators.fit_scaled_ncx2(errors * 50)
    np.testing.assert_allclose(
        other.log_likelihood, fit.log_likelihood - np.log(50), atol=1e-6
    )


def test_equal_errors_are_a_point_mass():
    fit = estimators.fit_scaled_ncx2(np.full(5, 0.25, "f4"))
    assert np.isinf(fit.df)
    assert fit.scale == 0.25
    assert not fit.at_bound
    costs = estimators.neg_log_ncx2_cdf(np.float32([0.2, 0.25]), *fit[:3])
    np.testing.assert_array_equal(costs, [np.inf, 0])
    for bad in (np.float32([0.1, 0]), np.float32([0.1, np.nan])):
        with pytest.raises(ValueError, match="expected above 0"):
            estimators.fit_scaled_ncx2(bad)
    with pytest.raises(ValueError, match="errors has shape"):
        estimators.fit_scaled_ncx2(np.ones((2, 2), "f4"))


def test_posterior_errors(x64):
    """Mean and variance of the errors, from those of the posterior."""
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    y, target = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))

    def kernel(a, b):
        return np.exp(-np.square((a[:, None] - b[None]) / 1.5).sum(-1) / 2)

    inverse = np.linalg.inv(kernel(x, x) + 1e-6 * np.eye(6))
    gap = kernel(t, x) @ inverse @ y - target
    cov = kernel(t, t) - kernel(t, x) @ inverse @ kernel(x, t)
    options = dict(samples=20000, lengthscale=1.5)
    errors = np.asarray(
        estimators.gp_posterior_errors(jax.random.key(0), x, y, t, target, **options)
    )
    mean = np.square(gap).mean() + np.trace(cov) / 4
    spread = (2 * np.square(cov).sum() * 3 + 4 * np.trace(gap.T @ cov @ gap)) / 12**2
    assert abs(errors.mean() - mean) < 4 * np.sqrt(spread / 20000)
    np.testing.assert_allclose(errors.var(), spread, rtol=0.1)
    # At the training inputs every function fits.
    fitted = estimators.gp_posterior_errors(jax.random.key(1), x, y, x, y, samples=3)
    assert fitted.max() < 1e-5


def test_errors_of_shapes():
    key, x = jax.random.key(0), np.ones((3, 2), "f4")
    with pytest.raises(
        ValueError, match=r"train_y has shape \(2, 2\), expected \(3, 'K'"
    ):
        estimators.gp_posterior_errors(key, x, x[:2], x, x)
    with pytest.raises(ValueError, match=r"test_x has shape \(3, 1\)"):
        estimators.gp_posterior_errors(key, x, x, x[:, :1], x)
    with pytest.raises(ValueError, match="lengthscale is 0"):
        estimators.gp_posterior_errors(key, x, x, x, x, lengthscale=0)
    with pytest.raises(ValueError, match="samples is 0"):
        estimators.gp_posterior_errors(key, x, x, x, x, samples=0)
