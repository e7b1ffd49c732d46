import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from scipy.special import expit

from logitlab import losses, weights
from logitlab.losses import listwise, ranking

ranking = functions(ranking, listwise)

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
    losses = np.float32([[0.2, 0.5, 0.3], [5e4, 5e4, 5e4], [np.inf, 1e30, np.inf]])
    probs = weights.personal_loss_probs(losses)
    want = [[0.705385, 0.035119, 0.259496], [1 / 3] * 3, [0, 1, 0]]
    np.testing.assert_allclose(probs, want, 1e-5)
    where = np.array([True, True, False])
    short = weights.personal_loss_probs(losses[0], where=where)
    full = weights.personal_loss_probs(losses[0, :2])
    np.testing.assert_allclose(short, [*full, 0], 1e-6)
    np.testing.assert_array_equal(
        weights.personal_loss_probs(losses[0], where=where & False), 0
    )
    cold = weights.personal_loss_probs(losses[0], temperature=1e-6)
    np.testing.assert_array_equal(cold, [1, 0, 0])
    hot = weights.personal_loss_probs(losses[0], temperature=np.inf)
    np.testing.assert_allclose(hot, 1 / 3, 1e-6)
    moved = weights.personal_loss_probs(losses.T, axis=0)
    np.testing.assert_array_equal(moved, probs.T)


def test_resampling_follows_the_probabilities():
    losses, items = np.float32([0.2, 0.5, 0.3]), np.array([7, 3, 9])
    many = 20_000
    drawn = interpreted(weights.personal_loss_resample)(
        jax.random.key(0), np.tile(losses, (many, 1)), np.tile(items, (many, 1))
    )
    share = [(drawn == item).mean() for item in items]
    want = weights.personal_loss_probs(losses)
    np.testing.assert_allclose(share, want, atol=4 * 0.5 / many**0.5)
    where = np.tile([False, True, True], (many, 1))
    drawn = weights.personal_loss_resample(
        jax.random.key(0),
        np.tile(losses, (many, 1)),
        np.tile(items, (many, 1)),
        where=where,
    )
    assert set(np.unique(drawn)) == {3, 9}
    alone = weights.personal_loss_resample(jax.random.key(0), losses[:1], items[:1])
    assert alone == 7  # a pool of one is plain training
    nobody = weights.personal_loss_resample(
        jax.random.key(0), losses, items, where=np.zeros(3, bool)
    )
    assert nobody == 7


def test_resampling_stops_the_gradient():
    def through(losses):
        scores = jnp.float32([1, 2, 3])
        return weights.personal_loss_resample(
            jax.random.key(1), losses, losses * 0 + scores
        )

    np.testing.assert_array_equal(jax.grad(through)(np.float32([1, 2, 3])), 0)


def test_bad_arguments():
    x = np.zeros(3, "f4")
    with pytest.raises(ValueError, match=r"neg has shape \(2,\), expected \(3,\)"):
        ranking.bpr_loss(x, x[:2])
    with pytest.raises(TypeError, match="pos has dtype int"):
        ranking.pairwise_bce_loss(np.zeros(3, int), x)
    with pytest.raises(ValueError, match=r"temperature is 0.0, expected positive"):
        weights.personal_loss_probs(x, temperature=0.0)
    with pytest.raises(ValueError, match=r"items has shape \(2,\), expected \(3,\)"):
        weights.personal_loss_resample(jax.random.key(0), x, np.arange(2))
    with pytest.raises(TypeError, match="losses has dtype int"):
        weights.personal_loss_probs(np.arange(3))


# --- lists, against loops in float64


def softmax_of(z, y, w):
    gain = w * y
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return -(gain * np.log(p)).sum() / gain.sum()


def mle_of(z, y, w):
    loss = 0.0
    for i in range(len(z)):
        after = [j for j in range(len(z)) if (y[j], -j) <= (y[i], -i)]
        loss += w[i] * np.log(np.exp(z[after] - z[i]).sum())
    return loss


def pairs_of(z, y, w, phi):
    n = range(len(z))
    return sum(w[i] * phi(z[i] - z[j]) for i in n for j in n if y[i] > y[j])


def logistic_of(z, y, w):
    return pairs_of(z, y, w, lambda d: np.logaddexp(0, -d))


def hinge_of(z, y, w):
    return pairs_of(z, y, w, lambda d: max(0, 1 - d))


def ndcg_of(z, y, w, temperature=0.7):
    gain = w * (2.0**y - 1)
    rank = 0.5 + expit((z[None] - z[:, None]) / temperature).sum(1)
    ideal = (np.sort(gain)[::-1] / np.log2(2 + np.arange(len(z)))).sum()
    return 1 - (gain / np.log2(1 + rank)).sum() / ideal


LISTS = {
    "listwise_softmax_loss": (softmax_of, {}),
    "listwise_mle_loss": (mle_of, {}),
    "pairwise_logistic_loss": (logistic_of, {}),
    "pairwise_hinge_loss": (hinge_of, {}),
    "approx_ndcg_loss": (ndcg_of, dict(temperature=0.7)),
}


def differences(f, z):
    units = 1e-6 * np.eye(len(z))
    return np.array([(f(z + u) - f(z - u)) / 2e-6 for u in units])


@pytest.mark.parametrize("name", LISTS)
def test_lists(name, x64):
    reference, hyper = LISTS[name]
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(3, 6)) * 2, rng.uniform(0.5, 2, (3, 6))
    y = rng.integers(0, 4, (3, 6))
    y[:, 0] = 2
    w[1, 2] = 0
    loss = lambda z, y, w, **k: getattr(losses, name)(z, y, w, **hyper, **k)  # noqa: E731
    run = interpreted(jax.value_and_grad(lambda *a, **k: loss(*a, **k).sum()))
    got = interpreted(loss)(z, y, w)
    want = [reference(*arrays) for arrays in zip(z, y, w, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-11)
    for i in range(3):
        slope = differences(lambda z, i=i: reference(z, y[i], w[i]), z[i])
        np.testing.assert_allclose(run(z[i], y[i], w[i])[1], slope, atol=1e-7)
    # Several lists on one axis, whatever their order; integer relevances are as good.
    order = rng.permutation(18) if name != "listwise_mle_loss" else np.arange(18)
    flat = [a.reshape(-1)[order] for a in (z, y.astype(float), w)]
    segments = np.repeat([7, 0, 3], 6)[order].astype(np.uint8)
    all_, grad = run(*flat, segments=segments)
    np.testing.assert_allclose(all_, np.sum(want), rtol=1e-11)
    np.testing.assert_allclose(
        grad, run(z, y, w)[1].reshape(-1)[order], rtol=1e-9, atol=1e-12
    )
    # A hidden item is no item, whatever its numbers.
    hide = np.arange(6) != 3
    spoilt = [np.where(hide, a, np.nan) for a in (z, y.astype(float), w)]
    few, few_grad = run(z[:, hide], y[:, hide], w[:, hide])
    where = np.broadcast_to(hide, (3, 6))
    some, some_grad = run(*spoilt, where=where)
    np.testing.assert_allclose(some, few, rtol=1e-12)
    np.testing.assert_allclose(some_grad[:, hide], few_grad, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(some_grad[:, ~hide], 0)
    moved = interpreted(lambda *a: loss(*a, axis=0))(z.T, y.T, w.T)
    np.testing.assert_allclose(moved, want, rtol=1e-11)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", LISTS)
def test_lists_are_exact(name):
    """A list in its right order keeps a loss and slopes at margins up to 80."""
    hyper = {"temperature": 0.5} if name == "approx_ndcg_loss" else {}
    y = np.array([3, 2, 1, 0])
    rows = [[m, 0, -m, -1.5 * m] for m in (1, 5, 17, 26, 39)]
    rows += [[0, 40, -3, 1], [-20, 0, 20, 40], [80, 0, 0, 0], [1e-3, 0, 0, 0]]
    z, y = np.float32(rows), np.tile(y, (len(rows), 1))
    segments = np.zeros_like(y)
    for extra in ({}, {"segments": segments}):

        def run(z, extra=extra):
            def total(z):
                values = getattr(losses, name)(z, y, **hyper, **extra)
                return values.sum(), values

            return jax.jit(jax.grad(total, has_aux=True))(z)

        got = run(z)
        with jax.enable_x64(True):
            want = run(z.astype("f8"))
        for a, b in zip(got, want, strict=True):
            a, b = (np.asarray(x, "f8").reshape(len(z), -1) for x in (a, b))
            off = np.abs(a - b).max(-1) / np.maximum(np.abs(b).max(-1), 1e-36)
            assert off.max() < 1e-5, off


@pytest.mark.sampled
@pytest.mark.parametrize("name", LISTS)
def test_lists_at_the_edges(name, x64):
    loss = getattr(ranking, name)
    z, y = np.float32([[1e30, -1e30, 3], [-np.inf] * 3]), np.array([[0, 1, 2]] * 2)
    grad = jax.grad(lambda z: getattr(losses, name)(z, y).sum())(z)
    values = loss(z, y)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values[1] == 0
    assert np.isfinite(grad).all()
    assert loss(z, y * 0)[1] == 0  # nothing is relevant
    assert loss(z[:, :1], y[:, :1] + 1).shape == (2,)
    w = np.float32([[0, 1, 1]])  # the item with a weight of 0 loses by far
    value = loss(np.float32([[-1e30, 1, 0]]), y[:1] + 1, w)
    assert np.isfinite(value).all() or name == "listwise_mle_loss"
    with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(2, 3\)"):
        loss(z, y[0])
    with pytest.raises(ValueError, match=r"weights has shape \(1, 3\), expected"):
        loss(z, y, w)
    with pytest.raises(TypeError, match="segments has dtype float32"):
        loss(z, y, None, z)


def test_hyper_parameters_of_lists(x64):
    z, y = np.float32([1, 0, 3]), np.array([0, 1, 2])
    half = np.float64(0.5)
    assert losses.approx_ndcg_loss(z, y, temperature=half).dtype == np.float32
    assert losses.pairwise_hinge_loss(z, y, margin=half).dtype == np.float32
    assert weights.personal_loss_probs(z, temperature=half).dtype == np.float32
    traced = jax.jit(lambda t: losses.approx_ndcg_loss(z, y, temperature=t))
    np.testing.assert_allclose(
        traced(0.5), losses.approx_ndcg_loss(z, y, temperature=half), rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"temperature is 0.0, expected positive"):
        losses.approx_ndcg_loss(z, y, temperature=0.0)
