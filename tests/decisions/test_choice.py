import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import decisions, losses
from logitlab.decisions import choice
from logitlab.losses import mnl_loss

RHO, V = np.float32([[0, 1], [0.5, -0.5]]), np.float32([1, 2])


def test_hand_check():
    alloc = np.zeros((6, 2, 2), bool)
    for i, places in enumerate(
        ([(0, 0)], [(0, 1)], [(1, 0)], [(1, 1)], [(0, 0), (1, 1)], [(0, 1), (1, 0)])
    ):
        for place in places:
            alloc[i][place] = True
    got = choice.mnl_welfare(alloc, np.stack([RHO] * 6), np.stack([V] * 6))
    want = [0.5, 0.731059, 1.244919, 0.755081, 0.849045, 1.120872]
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_array_equal(choice.mnl_optimal_allocation(RHO, V, k=2), alloc[2])
    assert not choice.mnl_optimal_allocation(RHO, -V, k=2).any()


def brute_force(rho, v, k):
    best = 0.0
    rows, columns = rho.shape
    for places in itertools.product(range(-1, columns), repeat=rows):
        used = [j for j in places if j >= 0]
        if len(used) > k or len(set(used)) < len(used):
            continue
        clicks = [np.exp(rho[i, j]) if j >= 0 else 0 for i, j in enumerate(places)]
        best = max(best, v @ clicks / (1 + sum(clicks)))
    return best


def test_dinkelbach_is_brute_force(x64):
    rng = np.random.default_rng(0)
    for _ in range(40):
        rho, v, k = (
            rng.normal(size=(4, 3)),
            rng.normal(size=4) + 0.5,
            rng.integers(1, 4),
        )
        alloc = choice.mnl_optimal_allocation(rho, v, k=int(k))
        assert alloc.sum() <= k
        clicks = np.where(alloc, np.exp(rho), 0).sum(1)
        welfare = v @ clicks / (1 + clicks.sum())
        np.testing.assert_allclose(welfare, brute_force(rho, v, k), rtol=1e-9)


def test_truthful():
    rng = np.random.default_rng(1)
    rho, v = rng.normal(size=(3, 2)), rng.uniform(size=3)

    def surplus(report):
        alloc = choice.mnl_optimal_allocation(rho, report, k=2)
        clicks = np.where(alloc, np.exp(rho), 0).sum(1)
        return v * clicks / (1 + clicks.sum()) - choice.vcg_payments(rho, report, k=2)

    honest = surplus(v)
    assert (honest >= -1e-12).all()
    for i in range(3):
        for lie in np.linspace(0, 2, 9):
            report = v.copy()
            report[i] = lie
            assert surplus(report)[i] <= honest[i] + 1e-12


def test_loss():
    u = np.float32([[1, 2], [-60, -80], [3e38, -3e38]])
    y = np.array([1, -1, 0])
    step = jax.jit(jax.value_and_grad(lambda u: mnl_loss(u, jnp.asarray(y)).sum()))
    log_p = choice.mnl_log_probs(u)
    np.testing.assert_allclose(
        mnl_loss(u, y), [-log_p[0, 1], np.exp(-60.0), 0], rtol=1e-5
    )
    assert np.isfinite(step(u)[1]).all()
    where = np.array([[False, True]])
    got = mnl_loss(u[:1], y[:1], where=where)
    np.testing.assert_allclose(got, np.log1p(np.exp(-2.0)), rtol=1e-5)
    for bad in (2, 3):
        with pytest.raises(ValueError, match="labels outside"):
            mnl_loss(u[:1], np.array([bad]))
    for step in (mnl_loss, jax.jit(mnl_loss)):  # -1 is none of them, -100 no choice
        got = step(u[:2], np.array([-1, -100]))
        assert np.isfinite(got[0])
        assert np.isnan(got[1])


def test_choices_of_narrow_integers():
    u = np.linspace(-2, 2, 3 * 256, dtype="f4").reshape(3, 256)
    y = np.array([0, 254, 255])
    want = mnl_loss(u, y)
    for dtype in ("u1", "i2", "i8", "u4"):
        np.testing.assert_array_equal(mnl_loss(u, y.astype(dtype)), want)
    np.testing.assert_array_equal(
        mnl_loss(u[:2, :128], np.array([-1, 127], "i1")),
        mnl_loss(u[:2, :128], np.array([-1, 127])),
    )
    with pytest.raises(ValueError, match="labels outside"):
        mnl_loss(u, np.array([0, 1, 2**32 + 1]))
    none = mnl_loss(u, np.array([-(2**32) - 1, -(2**40), -100]))  # none wraps to -1
    assert np.isnan(none).all()


def test_the_loss_is_that_of_the_losses():
    assert mnl_loss is losses.mnl_loss
    with pytest.raises(AttributeError, match="no attribute 'mnl'"):
        decisions.mnl  # noqa: B018


def test_cascade():
    p = np.float32([0.5, 1, 0.25])
    np.testing.assert_allclose(choice.cascade_click_probs(p), [0.5, 0.5, 0])
