import numpy as np
import pytest
from harness.goldens import cases

from logitlab import estimators

CASES = cases("self_distillation_krr")
Y = np.array(CASES[0]["inputs"]["y"])
# Mean squared error to sin(2 pi x), six steps and the limit, as published.
TABLE = {
    0.0: [0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251, 0.49505],
    0.25: [0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011, 0.15250],
    0.35: [0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948, 0.14959],
}


def kernels(x, grid, gamma):
    rbf = lambda a, b: np.exp(-gamma * (a[:, None] - b[None]) ** 2)  # noqa: E731
    return rbf(x, x), rbf(grid, x)


def toy():
    return kernels(np.arange(11) / 10, np.arange(101) / 100, 80.0)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["params"]["alpha"]))
def test_golden(case, x64):
    x, y, grid = (np.array(v) for v in case["inputs"].values())
    params, want = case["params"], case["outputs"]
    k, query = kernels(x, grid, params["rbf_gamma"])
    alpha, ridge, steps = params["alpha"], params["lambda"], params["steps"]
    options = dict(ridge=ridge, alphas=np.full(steps, alpha))
    close = dict(rtol=1e-8, atol=1e-11)
    fit = estimators.krr_self_distill(k, y, **options)
    np.testing.assert_allclose(fit, want["train_fit"], **close)
    at = np.asarray(estimators.krr_predict(query, k, y, **options))
    np.testing.assert_allclose(at[:, ::10], want["grid_fit_every_10th"], **close)
    error = ((at - np.sin(2 * np.pi * grid)) ** 2).mean(-1)
    np.testing.assert_allclose(error, want["mse_to_sin"], **close)
    limit = estimators.krr_limit(k, y, ridge=ridge, alpha=alpha, query=query)
    np.testing.assert_allclose(limit[::10], want["limit_grid_every_10th"], **close)
    d = np.linalg.eigvalsh(k)[::-1].copy()
    factors = estimators.shrinkage_factors(d, ridge=ridge, alpha=alpha, steps=steps)
    np.testing.assert_allclose(factors, want["eigen_diag"], **close)


def test_the_published_table(x64):
    k, query = toy()
    truth = np.sin(2 * np.pi * np.arange(101) / 100)
    for alpha, row in TABLE.items():
        options = dict(ridge=0.2, alphas=np.full(6, alpha))
        steps = estimators.krr_predict(query, k, Y, **options)
        limit = estimators.krr_limit(k, Y, ridge=0.2, alpha=alpha, query=query)
        at = np.concatenate([steps, np.asarray(limit)[None]])
        got = ((at - truth) ** 2).mean(-1)
        assert [f"{v:.5f}" for v in got] == [f"{v:.5f}" for v in row]


def test_the_limit_and_what_steps_do(x64):
    k, query = toy()
    steps = estimators.krr_self_distill(k, Y, ridge=0.2, alphas=np.full(200, 0.25))
    limit = estimators.krr_limit(k, Y, ridge=0.2, alpha=0.25)
    np.testing.assert_allclose(steps[-1], limit, atol=1e-10)
    same = estimators.krr_self_distill(k, Y, ridge=0.2, alphas=np.ones(3))
    np.testing.assert_allclose(same, np.tile(same[:1], (3, 1)), rtol=1e-12)
    d, u = np.linalg.eigh(k)
    options = dict(ridge=0.2, alpha=0.25, steps=4)
    b = np.asarray(estimators.shrinkage_factors(d, **options))
    np.testing.assert_allclose((b * (u.T @ Y)) @ u.T, steps[:4], atol=1e-12)
    b = np.asarray(estimators.shrinkage_factors(d, ridge=0.2, alpha=0.0, steps=4))
    ratios = b[:, 1:] / b[:, :-1]  # larger eigenvalues come last
    assert (np.diff(ratios, axis=0) > 0).all()  # sparser with every step
    whole = estimators.shrinkage_factors(
        np.array([0.0, 2]), ridge=0.0, alpha=0.0, steps=3
    )
    np.testing.assert_array_equal(whole, [[0, 1]] * 3)
    np.testing.assert_array_equal(estimators.krr_limit(k, Y, ridge=0.2, alpha=0.0), 0)


def test_the_best_share_beats_a_grid(x64):
    k, query = toy()
    targets = np.sin(2 * np.pi * np.arange(101) / 100)
    options = dict(ridge=0.2)
    first, _, only = (
        estimators.krr_predict(query, k, Y, alphas=np.array(a), **options)[-1]
        for a in ([1.0], [1.0, 1.0], [1.0, 0.0])
    )
    best = estimators.optimal_alpha(first, only, targets)
    mse = lambda a: ((a * first + (1 - a) * only - targets) ** 2).mean()  # noqa: E731
    assert mse(best) <= min(mse(a) for a in np.linspace(0, 1, 101)) + 1e-15
    step = estimators.krr_predict(query, k, Y, alphas=np.array([1.0, best]), **options)
    np.testing.assert_allclose(step[-1], best * first + (1 - best) * only, rtol=1e-10)
    assert estimators.optimal_alpha(first, first, targets) == 1
    free = estimators.optimal_alpha(
        np.ones(1), np.zeros(1), np.full(1, 3.0), clip=False
    )
    assert free == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k, y: (k[:2], y), r"kernel has shape \(2, 3\), expected \[N, N\]"),
        (lambda k, y: (k, y[:2]), r"y has shape \(2,\), expected \(3,\)"),
    ],
)
def test_wrong_shapes(call, message):
    k, y = np.eye(3, dtype="f4"), np.ones(3, "f4")
    with pytest.raises(ValueError, match=message):
        estimators.krr_self_distill(*call(k, y), ridge=1.0, alphas=np.ones(2, "f4"))


def test_wrong_numbers():
    k, y = np.eye(3, dtype="f4"), np.ones(3, "f4")
    with pytest.raises(ValueError, match="ridge is -1.0"):
        estimators.krr_limit(k, y, ridge=-1.0, alpha=0.5)
    with pytest.raises(ValueError, match="alpha is 2.0"):
        estimators.krr_limit(k, y, ridge=1.0, alpha=2.0)
    with pytest.raises(ValueError, match="alphas is"):
        estimators.krr_self_distill(k, y, ridge=1.0, alphas=np.full(2, 1.5, "f4"))
    with pytest.raises(
        ValueError, match=r"query has shape \(4, 2\), expected \[M, 3\]"
    ):
        estimators.krr_limit(k, y, ridge=1.0, alpha=0.5, query=np.ones((4, 2), "f4"))
    with pytest.raises(ValueError, match="steps is 0"):
        estimators.shrinkage_factors(y, ridge=1.0, alpha=0.5, steps=0)
    with pytest.raises(ValueError, match=r"targets has shape \(2,\), expected \(3,\)"):
        estimators.optimal_alpha(y, y, y[:2])
