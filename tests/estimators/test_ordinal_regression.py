import functools

import jax
import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy.optimize import minimize
from scipy.special import expit, logit

from logitlab import losses
from logitlab.estimators import fit_presto, presto_lambda_max, presto_logits

fit = functools.partial(jax.jit, static_argnums=2)(fit_presto)
shared = functools.partial(jax.jit, static_argnums=2)(
    functools.partial(fit_presto, penalize_first=False)
)


def simulate(n, dtype="f8", seed=0):
    """The paper's kind of data: sparse weights, few of them changed by a threshold."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 5)) * [1, 2, 1, 5, 1] + [0, 3, 0, 0, 1]
    beta = np.cumsum([[1, 0, 0.5, 0, 0], [0, 0.2, 0, 0, 0], [0, 0, 0, 0, 0.5]], 0)
    below = expit(x @ beta.T + [-2, 0.5, 2.5])
    y = (rng.uniform(size=(n, 1)) > below).sum(-1)
    return x.astype(dtype), y, below


def mean_loss(x, y, alpha, beta):
    eta = presto_logits(type("Fit", (), dict(intercepts=alpha, coefficients=beta)), x)
    return losses.cumulative_logit_loss(eta, y).mean()


@pytest.mark.sampled
@pytest.mark.parametrize("lam", [0.003, 0.006])
def test_optimality(x64, lam):
    """Slopes of the likelihood meet the subgradient of the penalty."""
    x, y, _ = simulate(400)
    z = (x - x.mean(0)) / x.std(0)

    @interpreted
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def likelihood(alpha, psi):
        return mean_loss(z, y, alpha, jax.numpy.cumsum(psi, 0))

    for run, first in ((fit, 0), (shared, 1)):
        got = run(x, y, 4, lam)
        assert got.change <= 1e-10
        alpha = got.intercepts + got.coefficients @ x.mean(0)
        value, (da, dpsi) = likelihood(alpha, got.psi)
        psi = np.asarray(got.psi)
        np.testing.assert_allclose(da, 0, atol=1e-8)
        free, dpsi = np.asarray(dpsi)[:first], np.asarray(dpsi)[first:]
        np.testing.assert_allclose(free, 0, atol=1e-8)
        kept = psi[first:] != 0
        assert kept.any()
        assert not kept.all()
        np.testing.assert_allclose(
            dpsi[kept], -lam * np.sign(psi[first:][kept]), atol=1e-8
        )
        assert (np.abs(dpsi[~kept]) <= lam + 1e-8).all()
        penalty = lam * np.abs(psi[first:]).sum()
        np.testing.assert_allclose(got.objective, value + penalty, 1e-12)


def test_lambda_max(x64):
    x, y, _ = simulate(400)
    top = interpreted(lambda x: presto_lambda_max(x, y, 4))(x)
    nothing = fit(x, y, 4, top * 1.001)
    np.testing.assert_array_equal(nothing.psi, 0)
    shares = np.cumsum(np.bincount(y, minlength=4))[:-1] / len(y)
    np.testing.assert_allclose(nothing.intercepts, logit(shares), 1e-8)
    assert (np.asarray(fit(x, y, 4, top * 0.98).psi) != 0).sum() == 1
    # Without a price on the first block it is proportional odds.
    odds = shared(x, y, 4, 1e3)
    np.testing.assert_array_equal(odds.psi[1:], 0)
    assert (odds.psi[0] != 0).all()


def test_two_classes_are_logistic_regression(x64):
    x, y, _ = simulate(300)
    y = (y > 1).astype(int)

    def loss(w):
        s = x @ w[1:] + w[0]
        return np.logaddexp(0, np.where(y == 0, -s, s)).mean()

    want = minimize(loss, np.zeros(6), tol=1e-14).x
    got = fit(x, y, 2, 0.0)
    np.testing.assert_allclose(got.coefficients[0], want[1:], atol=1e-4)
    np.testing.assert_allclose(got.intercepts[0], want[0], atol=1e-4)
    ridge = jax.jit(functools.partial(fit_presto, l1=0.0, l2=1.0), static_argnums=2)(
        x, y, 2, 0.1
    )

    def penalised(w):
        return loss(w) + 0.05 * np.sum((w[1:] * x.std(0)) ** 2)

    want = minimize(penalised, np.zeros(6), tol=1e-14).x
    np.testing.assert_allclose(ridge.coefficients[0], want[1:], atol=1e-4)


def test_float32_and_edges():
    x, y, _ = simulate(400, "f4")
    x = np.concatenate([x, np.full((400, 1), 7.3, "f4")], 1)  # a constant feature
    y = np.where(y == 2, 3, y)  # and a class without examples
    got = fit(x, y, 4, 0.005)
    assert got.psi.dtype == np.float32
    assert all(np.isfinite(a).all() for a in got)
    np.testing.assert_array_equal(got.psi[:, 5], 0)
    with jax.enable_x64(True):
        want = fit(x.astype("f8"), y, 4, 0.005)
        np.testing.assert_allclose(got.objective, want.objective, 1e-5)
    assert np.isnan(fit(x, y + 1, 4, 0.005).objective)
    low, high = (fit(x, y, 4, lam).objective for lam in (0.01, 0.1))
    assert low < high


def test_more_data_is_closer_to_the_truth():
    errors = []
    for n in (200, 3200):
        x, y, below = simulate(n, "f4", seed=1)
        got = fit(x, y, 4, 0.3 / n**0.5 / 10)
        errors.append(np.abs(expit(np.asarray(presto_logits(got, x))) - below).mean())
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.02


def test_bad_arguments():
    x, y = np.zeros((3, 2), "f4"), np.arange(3)
    with pytest.raises(ValueError, match="num_classes is 1, expected an integer"):
        fit_presto(x, y, 1, 0.1)
    with pytest.raises(ValueError, match=r"x has shape \(0, 2\), expected \[N, D\]"):
        fit_presto(x[:0], y[:0], 3, 0.1)
    with pytest.raises(ValueError, match=r"labels outside \[0, 2\)"):
        fit_presto(x, y, 2, 0.1)
    with pytest.raises(ValueError, match="lam is -1.0, expected at least 0"):
        fit_presto(x, y, 3, -1.0)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(3,\)"):
        presto_lambda_max(x, y[:2], 3)
    got = fit(x + np.float32(np.eye(3, 2)), y, 3, 1.0)
    with pytest.raises(ValueError, match=r"x has shape \(3, 1\), expected"):
        presto_logits(got, x[:, :1])
