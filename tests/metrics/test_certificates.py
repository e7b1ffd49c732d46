import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from scipy.special import ndtr, ndtri
from scipy.stats import beta, norm

from logitlab import links, metrics

MAPS = [(links.sparsemax, np.float32([0.3, 1])), (None, np.float32([0.3, 1]))]


@pytest.mark.parametrize("case", cases("lvmrs"))
def test_golden(x64, case):
    (z,), given, want = arrays(case).values(), case["params"], case["outputs"]
    temperatures = 1 / np.array(given.pop("scales"))
    maps = [(links.sparsemax, temperatures), (None, temperatures)]
    got = metrics.certify_lvm(z, maps=maps, selection="official", **given)
    assert got.classes == want["certified_class"]
    close(got.radius, want["certified_radius"])
    rows = [(link, t) for link, grid in maps for t in grid]
    probs = np.array(
        [metrics.simplex_map(z, link=link, temperature=t) for link, t in rows]
    )
    close(probs.mean(1), want["means_sparsemax_then_softmax"])
    close(probs.std(1, ddof=1), want["stds"])
    width = metrics.empirical_bernstein(
        probs.std(1, ddof=1), len(z), alpha=given["alpha"] / z.shape[1]
    )
    close(width, want["bernstein_shifts"])


def half_space(key, distance, trials, draws, sigma=0.5, slope=4.0):
    """Logits of two classes of which the first is right of 0, at a distance."""
    noise = sigma * jax.random.normal(key, (draws, trials))
    x = slope * (jnp.asarray(distance) + noise)
    return jnp.stack([x, -x], -1)


@pytest.mark.parametrize(
    "selection", ["holdout", pytest.param("bonferroni", marks=pytest.mark.slow)]
)
def test_certified_radii_hold(selection):
    """Radii above the true one, the distance, are as rare as alpha says."""
    alpha, trials = 0.05, 10_000
    keys = jax.random.split(jax.random.key(0))
    other = half_space(keys[1], 0.3, trials, 20) if selection == "holdout" else None
    found = metrics.certify_lvm(
        half_space(keys[0], 0.3, trials, 40),
        sigma=0.5,
        alpha=alpha,
        maps=[(links.sparsemax, 1.0), (None, 1.0)],
        selection=selection,
        selection_logits=other,
    )
    wrong = (found.classes == 1) | (found.radius > 0.3)
    sure = (found.classes == 0) & (found.radius > 0)
    assert wrong.mean() <= alpha
    assert sure.mean() > 0.4  # it is not all abstention
    assert (found.classes[~sure] != 0).all()
    assert (found.radius[found.classes == -1] == 0).all()


def test_a_batch_is_its_inputs():
    z = 2 * np.random.default_rng(0).normal(size=(40, 3, 2, 4)).astype("f4")
    z[..., 1] += np.float32([[0, 1], [2, 3], [4, 5]])
    options = dict(sigma=0.5, alpha=0.01, maps=MAPS, selection="bonferroni")
    whole = metrics.certify_lvm(z, **options)
    for at in np.ndindex(3, 2):
        alone = metrics.certify_lvm(z[:, *at], **options)
        for got, want in zip(whole, alone, strict=True):
            np.testing.assert_allclose(got[at], want, rtol=1e-5)
    assert whole.radius.any()
    assert (whole.classes == -1).any()


def test_the_map_that_suits():
    """Votes where draws agree; a soft map where half of them are lost by little."""
    draws = np.arange(1000)[:, None] % 2 == 0
    agree = np.where(draws, np.float32([2, 0]), np.float32([1, 0]))
    split = np.where(draws, np.float32([5, 0]), np.float32([0, 0.04]))
    options = dict(sigma=0.5, alpha=0.001, maps=[(None, 1.0)])
    # By hand: half of 2.428, the quantile that 0.0005 ** (1 / 1000) is of; and means of
    # 0.7417 and 0.2583 with widths of 0.0518, of a deviation of 0.2517.
    for z, which, radius in ((agree, 0, 1.214), (split, 1, 0.2477)):
        found = metrics.certify_lvm(z, selection_logits=z[::-1], **options)
        assert (found.maps, found.classes) == (which, 0)
        np.testing.assert_allclose(found.radius, radius, rtol=1e-3)


def test_means_are_nearly_certain_in_float32():
    """Of 100,000 votes all but none; float32 knows what the class lacks to 1."""
    z = np.zeros((100_000, 2), "f4")
    z[:, 0] = 1
    found = metrics.certify_lvm(
        z, sigma=1.0, alpha=0.001, maps=[], selection_logits=z[:2]
    )
    lacks = 1 - 0.0005 ** (1 / 100_000)
    np.testing.assert_allclose(found.radius, -ndtri(lacks), rtol=1e-3)


def test_simplex_maps():
    z = np.float32([[1, 2, 3], [0, 0, -np.inf], [1e30, -1e30, 0]])
    for link in (None, links.sparsemax, links.taylor_softmax, links.entmax):
        p = metrics.simplex_map(z, link=link, temperature=0.5)
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
        cold = metrics.simplex_map(z, link=link, temperature=1e-7)
        assert np.isfinite(cold).all()
    cold = metrics.simplex_map(z, temperature=1e-7)
    np.testing.assert_array_equal(cold, [[0, 0, 1], [0.5, 0.5, 0], [1, 0, 0]])
    np.testing.assert_allclose(
        metrics.simplex_map(z[0], temperature=2.0),
        np.exp(z[0] / 2) / np.exp(z[0] / 2).sum(),
        rtol=1e-6,
    )


@pytest.mark.parametrize("slope", [0.1, 1.0, 30.0, np.inf])
def test_lipschitz_constant_by_quadrature(x64, slope):
    """The steepest smoothed function is linear, clipped to [0, r]."""
    r, sigma = 2.0, 0.5
    x = np.linspace(-12, 12, 400_001)
    f = np.where(x >= 0, r, 0) if np.isinf(slope) else np.clip(slope * x, -r / 2, r / 2)
    got = metrics.smoothed_lipschitz(slope, r, sigma=sigma)
    slopes = [
        np.trapezoid(f * norm.pdf(x, at, sigma) * (x - at) / sigma**2, x)
        for at in (-0.3, 0.0, 0.2)
    ]
    np.testing.assert_allclose(got, max(slopes), rtol=1e-5)
    assert slopes[1] == max(slopes)


def test_lipschitz_radii_hold():
    """Margin over the constant of the difference is at most the true radius."""
    s, x = 0.5, np.linspace(0.01, 3, 30)
    radius = (2 * ndtr(x / s) - 1) / metrics.smoothed_lipschitz(np.inf, 2.0, sigma=s)
    assert (radius <= x).all()
    np.testing.assert_allclose(radius[0], x[0], rtol=1e-2)
    np.testing.assert_allclose(
        (2 * ndtr(0.1) - 1) / metrics.smoothed_lipschitz(np.inf, 2.0, sigma=s),
        0.0499,
        atol=5e-5,
    )


def test_lipschitz_between_its_limits():
    slopes = np.float32([1e-6, 1e-2, 1, 1e2, 1e6, 1e30])
    with jax.enable_x64(True):
        want = metrics.smoothed_lipschitz(slopes.astype("f8"), 1.0, sigma=0.5)
    got = metrics.smoothed_lipschitz(slopes, 1.0, sigma=0.5)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert (np.diff(want) >= 0).all()
    np.testing.assert_allclose(
        want[:: len(want) - 1], [1e-6, np.sqrt(2 / np.pi)], rtol=1e-6
    )


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_clopper_pearson(x64, side):
    k, n = np.array([0, 1, 3, 50, 99, 100]), 100
    for alpha in (0.5, 0.01, 1e-6):
        got = metrics.clopper_pearson(k, n, alpha=alpha, side=side)
        if side == "upper":
            want = np.where(k == n, 1, beta.isf(alpha, k + 1, np.maximum(n - k, 1)))
        else:
            want = np.where(k == 0, 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1))
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_clopper_pearson_in_float32():
    k, n = np.array([0, 1, 10, 1000, 50_000]), 100_000
    for alpha in (0.01, 1e-5):
        upper = np.float64(metrics.clopper_pearson(k, n, alpha=alpha, side="upper"))
        level = beta.sf(upper, k + 1, n - k)  # P(X <= k), which it may fall short of
        assert (level <= 1.0001 * alpha).all()
        assert (level >= 0.75 * alpha).all()


def test_bernstein_by_hand():
    got = metrics.empirical_bernstein(0.1, 1000, alpha=0.001)
    np.testing.assert_allclose(got, 0.0300828, rtol=1e-5)


def test_errors():
    z = np.zeros((5, 3), "f4")
    options = dict(sigma=0.5, alpha=0.1, maps=MAPS)
    with pytest.raises(ValueError, match="selection_logits are missing"):
        metrics.certify_lvm(z, **options)
    with pytest.raises(ValueError, match="selection_logits are given"):
        metrics.certify_lvm(z, selection="bonferroni", selection_logits=z, **options)
    with pytest.raises(ValueError, match="selection is 'best'"):
        metrics.certify_lvm(z, selection="best", **options)
    with pytest.raises(ValueError, match=r"noisy_logits has shape \(1, 3\)"):
        metrics.certify_lvm(z[:1], selection="official", **options)
    with pytest.raises(ValueError, match="selection_logits has shape"):
        metrics.certify_lvm(z, selection_logits=z[:, :2], **options)
    with pytest.raises(ValueError, match="alpha is 1, expected in"):
        metrics.certify_lvm(z, sigma=0.5, alpha=1, maps=[], selection="official")
    with pytest.raises(ValueError, match="temperatures is"):
        metrics.certify_lvm(
            z, sigma=0.5, alpha=0.1, maps=[(None, 0.0)], selection="official"
        )
    with pytest.raises(ValueError, match="side is 'both'"):
        metrics.clopper_pearson(1, 2, alpha=0.1, side="both")
    with pytest.raises(ValueError, match="successes is 3, expected from 0 to"):
        metrics.clopper_pearson(3, 2, alpha=0.1, side="upper")
    with pytest.raises(ValueError, match="draws is 1"):
        metrics.empirical_bernstein(0.1, 1, alpha=0.1)
    with pytest.raises(ValueError, match="sigma is -1, expected positive"):
        metrics.smoothed_lipschitz(1.0, 1.0, sigma=-1)
    with pytest.raises(ValueError, match="temperature is 0"):
        metrics.simplex_map(z, temperature=0)
