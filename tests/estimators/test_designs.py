import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions
from harness.quickly import quick_jit
from scipy import stats

from logitlab import estimators
from logitlab.estimators import designs

calls = functions(designs)


def draw(seed, n, m):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)), rng.normal(size=n)


def orthonormal(phi, mu):
    """A basis of the same space, orthonormal in the weights."""
    q, _ = np.linalg.qr(np.sqrt(mu)[:, None] * phi)
    return q / np.sqrt(mu)[:, None]


def solve(phi, weights, values):
    """Many fits in one program."""
    return jax.jit(jax.vmap(designs.weighted_least_squares))(phi, weights, values)


def test_slopes_of_a_fit(x64):
    x, y = draw(5, 9, 3)
    w = np.random.default_rng(6).uniform(0.5, 2, 9)
    fit = lambda w, y: designs.weighted_least_squares(x, w, y)[0]  # noqa: E731
    in_weights, in_values = quick_jit(jax.jacobian(fit, (0, 1)))(w, y)
    gram = x.T @ (w[:, None] * x)
    c = np.linalg.solve(gram, x.T @ (w * y))
    for got, rows in ((in_weights, y - x @ c), (in_values, w)):
        want = np.linalg.solve(gram, (x * rows[:, None]).T)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_fits_of_all_subsets(x64):
    """Volume sampling: unbiased at every size, and 4 times the least error at 3."""
    x, y = draw(0, 9, 3)
    full = np.linalg.lstsq(x, y, rcond=None)[0]
    least = np.square(y - x @ full).sum()
    leverage = np.square(np.linalg.qr(x)[0]).sum(-1)
    for size in (3, 5):
        subsets = np.array([*itertools.combinations(range(9), size)])
        volume = np.linalg.det(np.swapaxes(x[subsets], 1, 2) @ x[subsets])
        chance = volume / volume.sum()
        found = solve(x[subsets], np.ones(subsets.shape), y[subsets])
        np.testing.assert_allclose(chance @ found.coefficients, full, rtol=1e-10)
        assert (found.rank == 3).all()
        if size == 3:
            error = np.square(y[None] - found.coefficients @ x.T).sum(-1)
            np.testing.assert_allclose(chance @ error, 4 * least, rtol=1e-10)
            inside = (subsets[:, :, None] == np.arange(9)).any(1)
            np.testing.assert_allclose(chance @ inside, leverage, rtol=1e-10)


def test_sequences_of_volume_sampling(x64):
    """Drawn with replacement: the fit is unbiased, and the mean Gram matrix is I."""
    phi, f = draw(1, 5, 2)
    mu = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    phi = orthonormal(phi, mu)
    density = np.asarray(calls.optimal_density(phi))
    np.testing.assert_allclose(mu @ density, 1, rtol=1e-12)
    weights, nu = 1 / density, mu * density
    rows = np.array([*itertools.product(range(5), repeat=3)])
    p, w = phi[rows], weights[rows]
    gram = np.einsum("sn,sni,snj->sij", w, p, p) / 3
    under_nu, volume = nu[rows].prod(-1), np.linalg.det(gram)
    np.testing.assert_allclose(under_nu @ volume, math.factorial(3) / 3**2, rtol=1e-10)
    chance = under_nu * volume / (under_nu @ volume)
    mean = np.einsum("s,sij->ij", chance, gram)
    np.testing.assert_allclose(mean, np.eye(2), atol=1e-12)
    full = np.linalg.lstsq(np.sqrt(mu)[:, None] * phi, np.sqrt(mu) * f, rcond=None)[0]
    fits = solve(p, w, f[rows]).coefficients
    np.testing.assert_allclose(
        chance @ np.where(volume[:, None] > 1e-12, fits, 0), full
    )
    counts = np.bincount(
        np.ravel_multi_index(_drawn(designs.sample_volume, phi, 3, mu).T, (5, 5, 5)),
        minlength=125,
    )
    _assert_follows(counts, chance)


def test_draws_of_the_dpp(x64):
    phi, _ = draw(2, 5, 2)
    mu = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    kernel = orthonormal(phi, mu) * np.sqrt(mu)[:, None]
    pairs = np.array([*itertools.product(range(5), repeat=2)])
    chance = np.linalg.det(kernel[pairs]) ** 2 / 2
    drawn = _drawn(designs.sample_projection_dpp, phi, mu)
    counts = np.bincount(np.ravel_multi_index(drawn.T, (5, 5)), minlength=25)
    _assert_follows(counts, chance)
    # The space decides, not its basis; and one function is drawn from its density.
    mixed = _drawn(designs.sample_projection_dpp, phi @ [[1.0, 2], [3, 4]], mu)
    np.testing.assert_array_equal(np.sort(mixed, 1), np.sort(drawn, 1))
    one = _drawn(designs.sample_projection_dpp, phi[:, :1], mu)
    share = mu * np.square(phi[:, 0])
    _assert_follows(np.bincount(one.ravel(), minlength=5), share / share.sum())


def _drawn(sampler, phi, *rest):
    keys = jax.random.split(jax.random.key(0), 4000)
    return np.asarray(jax.jit(jax.vmap(lambda key: sampler(key, phi, *rest)))(keys))


def _assert_follows(counts, chance):
    assert (counts[chance < 1e-12] == 0).all()
    some = chance > 1e-12
    expected = chance[some] / chance[some].sum() * counts.sum()
    assert stats.chisquare(counts[some], expected).pvalue > 1e-3


def test_points_differ_though_some_are_twins():
    phi = np.float32([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    drawn = _drawn(designs.sample_projection_dpp, phi)
    assert (phi[drawn].sum(1) == 1).all()  # one of each kind, never two twins
    x = np.linspace(-1, 1, 30, dtype="f4")
    legendre = np.polynomial.legendre.legvander(x, 9).astype("f4")
    key = jax.random.key(1)
    (row,) = jax.vmap(lambda k: designs.sample_projection_dpp(k, legendre))(key[None])
    assert len(set(row.tolist())) == 10


def test_fit_and_deviation(x64):
    phi, f = draw(3, 7, 3)
    w = np.random.default_rng(3).uniform(0.5, 2, 7)
    got = calls.weighted_least_squares(phi, w, np.stack([f, 2 * f], -1))
    want = np.linalg.solve(phi.T * w @ phi, phi.T * w @ f)
    np.testing.assert_allclose(got.coefficients, np.stack([want, 2 * want], -1))
    gram = phi.T * w @ phi / 7
    deviation = np.linalg.norm(gram - np.eye(3), 2)
    np.testing.assert_allclose(calls.gram_deviation(phi, w), deviation, rtol=1e-12)
    # A weight of 0 leaves a point out, whatever was measured there.
    w[2], spoilt = 0, np.where(np.arange(7) == 2, np.nan, f)
    some = np.arange(7) != 2
    one = calls.weighted_least_squares(phi, w, spoilt).coefficients
    two = calls.weighted_least_squares(phi[some], w[some], f[some]).coefficients
    np.testing.assert_allclose(one, two, rtol=1e-10)


def test_a_point_that_is_drawn_again_is_flagged():
    phi = np.float32([[1, 2], [1, 2], [1, 2]])
    fit = estimators.weighted_least_squares(
        phi, np.ones(3, "f4"), np.float32([5, 5, 5])
    )
    assert fit.rank == 1
    np.testing.assert_allclose(fit.coefficients, [1, 2], rtol=1e-5)  # the shortest


def test_errors():
    key, phi = jax.random.key(0), np.ones((3, 2), "f4")
    with pytest.raises(ValueError, match="n is 1, expected at least 2 functions"):
        estimators.sample_volume(key, phi, 1)
    with pytest.raises(ValueError, match="at least as many points as functions"):
        estimators.sample_projection_dpp(key, phi.T)
    with pytest.raises(ValueError, match=r"weights has shape \(2,\), expected \(3,\)"):
        estimators.gram_deviation(phi, np.ones(2))
    with pytest.raises(ValueError, match="expected at least 0"):
        estimators.weighted_least_squares(phi, -np.ones(3), np.ones(3, "f4"))
    with pytest.raises(ValueError, match="values has shape"):
        estimators.weighted_least_squares(phi, np.ones(3), np.ones(4, "f4"))
    with pytest.raises(TypeError, match="phi has dtype int"):
        estimators.optimal_density(jnp.ones((3, 2), int))
