import jax
import numpy as np
import pytest
import scipy.stats

from experiments.estimation import deep_kernels

ALPHAS = ((1.0, 2.0), (2.0, 1.0))


@pytest.mark.usefixtures("x64")
def test_draws_and_the_best_classifier():
    x, y = map(np.asarray, deep_kernels.draw(jax.random.key(0), 4000, ALPHAS, 0.4))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    assert abs((y > 0).mean() - 0.4) < 0.03
    score = np.asarray(deep_kernels.best_score(x, ALPHAS, 0.4))
    share = x / x.sum(1, keepdims=True)
    laws = [scipy.stats.dirichlet(a).logpdf(share[:50].T) for a in ALPHAS]
    np.testing.assert_allclose(score[:50], laws[0] - laws[1] + np.log(0.4 / 0.6))
    # The integral of max(.4 * 2 (1 - s), .6 * 2 s) over [0, 1]
    assert abs(((score > 0) == (y > 0)).mean() - 0.76) < 0.02


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("rows", (10, 5), "config.rows is"),
        ("rows", (1,), "config.rows is"),
        ("prior", 0.6, "config.prior is 0.6"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("estimation:deep_kernels", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("estimation:deep_kernels")
    assert done.figures == ["power", "rows_2", "rows_3"]
    assert "3d/20" not in done.results["erf"]
    for name in ("bayes", "hilbert", "optimal", "sine", "nearest"):
        assert (done.results[name].final("3d/20") <= 1).all()
