import jax
import numpy as np
import pytest

from experiments.features import polynomials


def test_the_form_is_standardized():
    x = jax.random.normal(jax.random.key(0), (20_000, 6))
    p = np.asarray(polynomials.form(x))
    assert abs(p.mean()) < 0.03
    assert abs(p.var() - 1) < 0.05
    one = polynomials.form(np.float32([[2, 0, 1, 1]]))
    np.testing.assert_allclose(one, [4 / 8**0.5], rtol=1e-6)


def test_ridge_leaves_one_out(x64, monkeypatch):
    """Against refits without each row."""
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(12, 3)), rng.normal(size=12)

    def fit(a, y, ridge):
        middle = a.mean(0)
        b = a - middle
        w = np.linalg.solve(b.T @ b + ridge * np.eye(3), b.T @ (y - y.mean()))
        return w, y.mean() - middle @ w

    top = np.linalg.eigvalsh(np.cov(a.T, bias=True) * 12)[-1]
    errors = []
    for share in polynomials.RIDGES:
        gaps = []
        for i in range(12):
            rest = np.arange(12) != i
            w, offset = fit(a[rest], y[rest], share * top)
            gaps.append(y[i] - a[i] @ w - offset)
        errors.append(np.mean(np.square(gaps)))
    w, offset = fit(a, y, polynomials.RIDGES[np.argmin(errors)] * top)
    got = polynomials.ridge_fit(a, y)
    np.testing.assert_allclose(got[0], w, rtol=1e-8)
    np.testing.assert_allclose(got[1], offset, rtol=1e-8)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("outers", (), "config.outers is"),
        ("outers", ("cosine",), "config.outers"),
        ("dimensions", (5,), "expected even numbers"),
        ("multiples", (0,), "config.multiples is"),
        ("share", 1.0, "config.share is 1.0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("features:polynomials", key, value, message)


def test_end_to_end(run_study):
    done = run_study("features:polynomials")
    assert done.figures == ["correlation", "error"]
    layers = done.results["three_layers_rising"]
    assert (layers.final("correlation/4/8") > 0.5).all()
    for arm in (layers, done.results["kernel_rising"]):
        assert (arm.final("error/4/8") > 0).all()
