import itertools

import numpy as np
import pytest
import threadpoolctl
from scipy import optimize, stats

from experiments.scaling import _laws as laws

WIDTHS = (8, 16, 32, 64, 128, 256)
N = [4096 + 256 * h + h + h * h + h + 256 * h + 256 for h in WIDTHS]
D = [125_000, 250_000, 500_000, 1_000_000]
# One seed each, of an earlier prototype of ours.
PROTOTYPE = [
    [2.961, 2.751, 2.378, 2.182, 2.048, 1.941],
    [2.898, 2.529, 2.133, 1.977, 1.857, 1.743],
    [2.544, 2.204, 1.955, 1.807, 1.687, 1.582],
    [2.220, 2.019, 1.845, 1.688, 1.557, 1.457],
]
GRID_N, GRID_D = np.tile(N, len(D)).astype(float), np.repeat(D, len(N)).astype(float)
SOME = laws.GRID[::10]
TRUE = laws.Law(a=6.5, b=4.0, e=-0.2, alpha=0.6, beta=0.35)


def test_the_fit_of_a_prototype():
    law = laws.fit_law(GRID_N, GRID_D, np.ravel(PROTOTYPE))
    # Numbers of its own fit, to losses of more digits than these.
    assert law.alpha == pytest.approx(0.783, abs=0.005)
    assert law.beta == pytest.approx(0.298, abs=0.005)
    coefficients = law.coefficients
    assert coefficients["A"] == pytest.approx(1.24e3, rel=0.03)
    assert coefficients["B"] == pytest.approx(36.6, rel=0.03)
    assert coefficients["E"] == pytest.approx(0.772, abs=0.008)
    assert law.loss(529_664, 1e6) == pytest.approx(1.409, abs=2e-3)
    assert law.loss(201_472, 2e6) == pytest.approx(1.345, abs=2e-3)
    left = np.abs(law.loss(GRID_N, GRID_D) / np.ravel(PROTOTYPE) - 1)
    assert left.mean() == pytest.approx(0.019, abs=5e-4)


def test_fits_use_one_blas_thread(monkeypatch):
    before = [lib["num_threads"] for lib in threadpoolctl.threadpool_info()]
    seen = []

    def minimize(*args, **options):
        infos = threadpoolctl.threadpool_info()
        seen.append({i["num_threads"] for i in infos if i["user_api"] == "blas"})
        return optimize.OptimizeResult(x=np.array(TRUE), fun=0.0)

    monkeypatch.setattr(laws.scipy.optimize, "minimize", minimize)
    with threadpoolctl.threadpool_limits(2, "blas"):
        loss = TRUE.loss(GRID_N, GRID_D)
        laws.fit_law(GRID_N, GRID_D, loss, starts=[TRUE])
        laws.bootstrap_laws(GRID_N, GRID_D, loss, TRUE, resamples=1)
    assert seen
    assert all(threads == {1} for threads in seen)
    assert [lib["num_threads"] for lib in threadpoolctl.threadpool_info()] == before


def test_the_lines_of_a_prototype():
    c, alpha = laws.fit_power_law(np.array(N) - 4096, PROTOTYPE[-1])  # no embedding
    assert np.exp(c - alpha * np.log(529_664 - 4096)) == pytest.approx(1.278, abs=1e-3)
    for losses, slope, r2, digits in (
        (PROTOTYPE[-1], -0.131, 0.968, 5e-4),
        (PROTOTYPE[0], -0.135, 0.93, 5e-3),
    ):
        got = laws.slope_and_r2(N, losses)
        assert got[0] == pytest.approx(slope, abs=5e-4)
        assert got[1] == pytest.approx(r2, abs=digits)


@pytest.mark.slow
def test_no_start_leads_further_down():
    runs = laws._logs(GRID_N, GRID_D, np.ravel(PROTOTYPE))
    given = runs, np.ones(len(GRID_N)), 1e-3
    law = laws.fit_law(GRID_N, GRID_D, np.ravel(PROTOTYPE))
    here = laws._objective(np.array(law), *given)[0]
    for start in (*np.random.default_rng(0).permutation(laws.GRID)[:10], TRUE):
        end = optimize.minimize(
            lambda theta: laws._objective(theta, *given)[0], start, method="BFGS"
        )
        assert here <= end.fun * (1 + 1e-6)


def test_a_known_law_is_recovered():
    law = laws.fit_law(GRID_N, GRID_D, TRUE.loss(GRID_N, GRID_D), starts=SOME)
    np.testing.assert_allclose(law, TRUE, rtol=1e-3)
    assert law.loss(1e7, 1e8) == pytest.approx(TRUE.loss(1e7, 1e8), rel=1e-4)


def test_one_bad_run_does_not_move_it():
    loss = TRUE.loss(GRID_N, GRID_D)
    loss[4] *= 1.3
    off = [
        abs(law.loss(1e6, 1e7) - TRUE.loss(1e6, 1e7))
        for delta in (1e-3, 10.0)  # the second: least squares
        for law in [laws.fit_law(GRID_N, GRID_D, loss, delta=delta, starts=SOME)]
    ]
    assert off[0] < 0.01 < off[1]


@pytest.mark.slow
def test_resampled_laws_cover_the_truth():
    rng = np.random.default_rng(0)
    loss = TRUE.loss(GRID_N, GRID_D) * np.exp(0.01 * rng.normal(size=len(GRID_N)))
    law = laws.fit_law(GRID_N, GRID_D, loss)
    found = laws.bootstrap_laws(GRID_N, GRID_D, loss, law, resamples=100)
    alphas = np.array([other.alpha for other in found])
    low, high = np.quantile(alphas, (0.02, 0.98))
    assert low < TRUE.alpha < high
    assert low < law.alpha < high
    assert np.std(alphas) > 0.005
    # warm starts find what the grid finds
    drawn = np.bincount(np.random.default_rng(0).integers(0, 24, 24), minlength=24)
    some = np.repeat(np.arange(24), drawn)
    again = laws.fit_law(GRID_N[some], GRID_D[some], loss[some])
    np.testing.assert_allclose(found[0], again, rtol=1e-3)


def test_exact_runs_leave_nothing_to_resampling():
    loss = TRUE.loss(GRID_N, GRID_D)
    found = laws.bootstrap_laws(GRID_N, GRID_D, loss, TRUE, resamples=10)
    np.testing.assert_allclose([o.alpha for o in found], TRUE.alpha, rtol=1e-3)


def test_the_gradient():
    runs = laws._logs(GRID_N, GRID_D, np.ravel(PROTOTYPE))
    weights = np.arange(24.0) % 3

    def value(t):
        return laws._objective(t, runs, weights, 0.05)[0]

    for theta in np.array([TRUE, laws.GRID[7]]):
        slope = laws._objective(theta, runs, weights, 0.05)[1]
        for i, step in enumerate(1e-6 * np.eye(5)):
            numeric = (value(theta + step) - value(theta - step)) / 2e-6
            np.testing.assert_allclose(slope[i], numeric, rtol=1e-5, atol=1e-5)


def test_the_best_sizes_are_the_best():
    for flops in (1e10, 1e13):
        n, d = laws.optimal_sizes(TRUE, flops)
        assert 6 * n * d == pytest.approx(flops)
        others = n * np.geomspace(0.2, 5, 101)
        losses = TRUE.loss(others, flops / (6 * others))
        assert losses.argmin() == 50
    (n1, n2), (d1, d2) = laws.optimal_sizes(TRUE, [1e10, 1e12])
    assert np.log(n2 / n1) / np.log(100) == pytest.approx(0.35 / 0.95)
    assert np.log(d2 / d1) / np.log(100) == pytest.approx(0.6 / 0.95)


def test_lines_in_logarithms():
    rng = np.random.default_rng(0)
    n, values = np.array(N, float), -np.exp(rng.normal(size=6))
    want = stats.linregress(np.log(n), np.log(-values))
    slope, r2 = laws.slope_and_r2(n, values)
    assert slope == pytest.approx(want.slope)
    assert r2 == pytest.approx(want.rvalue**2)
    c, alpha = laws.fit_power_law(n, 7 * n**-0.3)
    assert (c, alpha) == pytest.approx((np.log(7), 0.3))


def test_the_starts_are_the_whole_grid():
    assert len(set(laws.GRID)) == 3**5
    steps = [sorted({start[i] for start in laws.GRID}) for i in range(5)]
    assert steps[2:4] == [[-1, 0, 0.5], [0.2, 0.5, 1]]
    assert tuple(itertools.product(*steps)) == laws.GRID


def test_errors():
    with pytest.raises(ValueError, match="needs 5 runs, got 4"):
        laws.fit_law(N[:4], [1e5] * 4, [2, 1.9, 1.8, 1.7])
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            laws.fit_law(GRID_N, GRID_D, [*TRUE.loss(GRID_N, GRID_D)[:-1], bad])
