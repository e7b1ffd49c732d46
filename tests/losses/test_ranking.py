import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import functions, interpreted
from scipy.special import expit

from logitlab.losses import ranking

ranking = functions(ranking)

MARGINS = np.float32([-80, -40, -17, -1, 0, 1e-3, 5, 17, 40, 80])


def test_bpr_is_exact():
    zero = np.zeros_like(MARGINS)
    values = ranking.bpr_loss(MARGINS, zero)
    m = MARGINS.astype(np.float64)
    np.testing.assert_allclose(values, np.logaddexp(0, -m), 1e-6)
    for at, sign in ((0, -1), (1, 1)):
        grad = jax.grad(lambda *s: ranking.bpr_loss(*s).sum(), at)(MARGINS, zero)
        np.testing.assert_allclose(grad, sign * expit(-m), 1e-6)


def test_bce_is_exact():
    values = ranking.pairwise_bce_loss(MARGINS, MARGINS[::-1])
    p, n = MARGINS.astype(np.float64), MARGINS[::-1].astype(np.float64)
    np.testing.assert_allclose(values, np.logaddexp(0, -p) + np.logaddexp(0, n), 1e-6)
    loss = lambda *s: ranking.pairwise_bce_loss(*s).sum()  # noqa: E731
    grads = jax.grad(loss, (0, 1))(MARGINS, MARGINS[::-1])
    np.testing.assert_allclose(grads[0], -expit(-p), 1e-6)
    np.testing.assert_allclose(grads[1], expit(n), 1e-6)


def test_probs():
    losses = np.float32([[0.2, 0.5, 0.3], [5e4, 5e4, 5e4], [np.inf, 3e38, np.inf]])
    probs = ranking.personal_loss_probs(losses)
    want = [[0.705385, 0.035119, 0.259496], [1 / 3] * 3, [0, 1, 0]]
    np.testing.assert_allclose(probs, want, 1e-5)
    where = np.array([True, True, False])
    short = ranking.personal_loss_probs(losses[0], where=where)
    full = ranking.personal_loss_probs(losses[0, :2])
    np.testing.assert_allclose(short, [*full, 0], 1e-6)
    np.testing.assert_array_equal(
        ranking.personal_loss_probs(losses[0], where=where & False), 0
    )
    cold = ranking.personal_loss_probs(losses[0], temperature=1e-6)
    np.testing.assert_array_equal(cold, [1, 0, 0])
    hot = ranking.personal_loss_probs(losses[0], temperature=np.inf)
    np.testing.assert_allclose(hot, 1 / 3, 1e-6)
    moved = ranking.personal_loss_probs(losses.T, axis=0)
    np.testing.assert_array_equal(moved, probs.T)


def test_resampling_follows_the_probabilities():
    losses, items = np.float32([0.2, 0.5, 0.3]), np.array([7, 3, 9])
    many = 20_000
    drawn = interpreted(ranking.pld_resample)(
        jax.random.key(0), np.tile(losses, (many, 1)), np.tile(items, (many, 1))
    )
    share = [(drawn == item).mean() for item in items]
    want = ranking.personal_loss_probs(losses)
    np.testing.assert_allclose(share, want, atol=4 * 0.5 / many**0.5)
    where = np.tile([False, True, True], (many, 1))
    drawn = ranking.pld_resample(
        jax.random.key(0),
        np.tile(losses, (many, 1)),
        np.tile(items, (many, 1)),
        where=where,
    )
    assert set(np.unique(drawn)) == {3, 9}
    alone = ranking.pld_resample(jax.random.key(0), losses[:1], items[:1])
    assert alone == 7  # a pool of one is plain training
    nobody = ranking.pld_resample(
        jax.random.key(0), losses, items, where=np.zeros(3, bool)
    )
    assert nobody == 7


def test_resampling_stops_the_gradient():
    def through(losses):
        scores = jnp.float32([1, 2, 3])
        return ranking.pld_resample(jax.random.key(1), losses, losses * 0 + scores)

    np.testing.assert_array_equal(jax.grad(through)(np.float32([1, 2, 3])), 0)


def test_bad_arguments():
    x = np.zeros(3, "f4")
    with pytest.raises(ValueError, match=r"neg has shape \(2,\), expected \(3,\)"):
        ranking.bpr_loss(x, x[:2])
    with pytest.raises(TypeError, match="pos has dtype int"):
        ranking.pairwise_bce_loss(np.zeros(3, int), x)
    with pytest.raises(ValueError, match=r"temperature is 0.0, expected positive"):
        ranking.personal_loss_probs(x, temperature=0.0)
    with pytest.raises(ValueError, match=r"items has shape \(2,\), expected \(3,\)"):
        ranking.pld_resample(jax.random.key(0), x, np.arange(2))
    with pytest.raises(TypeError, match="losses has dtype int"):
        ranking.personal_loss_probs(np.arange(3))
