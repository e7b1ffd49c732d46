import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import close
from harness.interpreter import functions, interpreted
from scipy.special import expit, log_expit

from logitlab import losses, transforms
from logitlab.losses import ordinal

ordinal = functions(ordinal)


def oracle(eta, y):
    """Loss and gradient of one example, in float64, by the formula as it stands."""
    eta = np.asarray(eta, np.float64)
    full = np.concatenate([[-np.inf], eta, [np.inf]])
    lo, hi = full[y], full[y + 1]
    loss = -(log_expit(hi) + log_expit(-lo) + np.log1p(-np.exp(lo - hi)))
    grad = np.zeros(len(full))
    steep = 0 if np.isinf(hi - lo) else 1 / np.expm1(hi - lo)
    grad[y + 1] = -expit(-hi) - steep
    grad[y] = expit(lo) + steep
    return loss, grad[1:-1]


@jax.jit
def exact(eta, y):
    loss = lambda eta: ordinal.cumulative_logit_loss(eta, y, p_min=0.0)  # noqa: E731
    values, pull = jax.vjp(loss, eta)
    return values, pull(jnp.ones_like(values))[0]


def test_hand_check():
    probs = transforms.cumulative_probs(jnp.float32([-0.8, 0.6, 1.7]))
    np.testing.assert_allclose(probs, [0.310026, 0.335631, 0.199878, 0.154465], 1e-5)
    losses = ordinal.cumulative_logit_loss(
        np.tile(np.float32([-0.8, 0.6, 1.7]), (4, 1)), np.arange(4)
    )
    np.testing.assert_allclose(losses, -np.log(probs), 1e-6)


@pytest.mark.parametrize("size", [2, 1, 3])
def test_exact_at_large_margins(size):
    """Every entry by itself, not only relative to the largest."""
    margins = [-80, -60, -30, -5, -1e-3, 0, 1e-6, 1e-3, 1, 17, 20, 50, 79.5, 80]
    eta = np.float32(list(itertools.combinations(margins, size)))
    for y in range(size + 1):
        values, grads = exact(eta, np.full(len(eta), y))
        want = [oracle(row, y) for row in eta]
        np.testing.assert_allclose(values, [v for v, _ in want], 1e-6, 1e-37)
        np.testing.assert_allclose(grads, [g for _, g in want], 2e-6, 1e-37)


def test_derivatives(x64):
    rng = np.random.default_rng(0)
    eta, y = np.sort(rng.normal(size=(6, 3)) * 2, -1), np.arange(6) % 4
    values, grads = exact(eta, y)
    want = [oracle(*pair) for pair in zip(eta, y, strict=True)]
    close(values, [v for v, _ in want], 1e-12)
    close(grads, [g for _, g in want], 1e-12)
    jacobian = interpreted(jax.jacfwd(transforms.cumulative_probs))(eta[0])
    step = 1e-6 * np.eye(3)
    change = transforms.cumulative_probs(eta[0] + step) - transforms.cumulative_probs(
        eta[0] - step
    )
    close(jacobian, np.asarray(change).T / 2e-6, 1e-8)


def test_probs():
    rng = np.random.default_rng(1)
    eta = np.float32(rng.normal(size=(50, 4)) * 20)  # out of order, most of them
    probs = np.asarray(transforms.cumulative_probs(eta))
    below = np.pad(expit(eta.astype("f8")), ((0, 0), (1, 1)), constant_values=(0, 1))
    np.testing.assert_allclose(probs, np.diff(below), atol=1e-6)
    assert (probs < 0).any()
    assert ((probs < 0) == (np.diff(np.pad(eta, ((0, 0), (1, 1)),
        constant_values=(-np.inf, np.inf))) < 0)).all()  # fmt: skip
    edges = np.float32([[-np.inf, -np.inf, 0], [0, np.inf, np.inf], [-1e30, 0, 1e30]])
    want = [[0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0]]
    np.testing.assert_allclose(transforms.cumulative_probs(edges), want, atol=1e-7)
    moved = transforms.cumulative_probs(eta.T, axis=0)
    np.testing.assert_array_equal(moved, probs.T)


def test_crossing_is_clipped():
    eta, y = np.float32([[1, 0], [0, 0], [-9, -9 + 1e-6]]), np.full(3, 1)
    loss = lambda eta, p: ordinal.cumulative_logit_loss(eta, y, p_min=p)  # noqa: E731
    np.testing.assert_allclose(loss(eta, 1e-8), -np.log(1e-8), 1e-6)
    assert loss(eta, 1e-3)[0] == loss(eta, 1e-3)[1] < 7
    grad = jax.grad(lambda eta: loss(eta, 1e-8).sum())(eta)
    np.testing.assert_array_equal(grad, 0)
    values, grad = exact(eta, y)
    assert (values[:2] == np.inf).all()
    assert np.isfinite(values[2])
    np.testing.assert_array_equal(grad[:2], 0)
    assert np.isfinite(grad).all()
    assert (grad[2] != 0).all()
    big = 1e30
    for row in ([-big, big], [big, big], [-big, -big], [0, np.finfo("f4").tiny]):
        for label in range(3):
            value, grad = exact(np.float32(row), label)
            assert not np.isnan(value)
            assert np.isfinite(grad).all()


def test_two_classes_are_logistic():
    s = np.float32([-40, -1, 0, 2, 40])
    zeros = ordinal.cumulative_logit_loss(s[:, None], np.zeros(5, int))
    ones = ordinal.cumulative_logit_loss(s[:, None], np.ones(5, int))
    np.testing.assert_allclose(zeros[1:], np.logaddexp(0, -s[1:]), 1e-6)
    np.testing.assert_allclose(ones[:-1], np.logaddexp(0, s[:-1]), 1e-6)
    np.testing.assert_allclose([zeros[0], ones[-1]], -np.log(1e-8), 1e-6)  # clipped


def test_proportional_odds():
    rng = np.random.default_rng(2)
    s, y = np.float32(rng.normal(size=(6, 5)) * 3), rng.integers(0, 4, (6, 5))
    a = np.float32([-1, 0.5, 2])

    def both(s, a):
        want = ordinal.cumulative_logit_loss(s[..., None] + a[None, None], y, p_min=0.0)
        return ordinal.proportional_odds_loss(s, y, a), want

    got, want = both(s, a)
    np.testing.assert_allclose(got, want, 1e-5)
    for at in (0, 1):
        grads = [
            jax.grad(lambda *x, i=i: both(*x)[i].sum(), argnums=at)(s, a)
            for i in (0, 1)
        ]
        close(*grads, 1e-5)
    # Close thresholds under a large score, where the other form has lost the gap.
    close_by = np.float32([0, 1e-3])
    value = ordinal.proportional_odds_loss(np.float32(1e4), 1, close_by)
    np.testing.assert_allclose(value, 1e4 - np.log(np.expm1(1e-3)) + 1e-3, 1e-6)
    grad = jax.grad(ordinal.proportional_odds_loss)(np.float32(1e4), 1, close_by)
    assert grad == 1


def test_ordered_thresholds():
    raw = np.float32([[3, -50, 2], [0, 0, 0]])
    out = np.asarray(transforms.ordered_thresholds(raw))
    want = np.cumsum([raw[:, 0], *np.logaddexp(0, raw.T[1:])], 0).T
    np.testing.assert_allclose(out, want, 1e-6)
    assert (np.diff(out) >= 0).all()
    np.testing.assert_array_equal(transforms.ordered_thresholds(raw.T, axis=0), out.T)


def test_penalty():
    psi = np.float32([[1, -2], [0, 3], [-1, 0]])
    assert ordinal.presto_penalty(psi) == 7
    assert ordinal.presto_penalty(psi, penalize_first=False) == 4
    assert ordinal.presto_penalty(psi, l1=0.5, l2=2.0) == 3.5 + 15
    grad = jax.grad(lambda p: ordinal.presto_penalty(p, l1=0.0, l2=2.0))(psi)
    np.testing.assert_array_equal(grad, 2 * psi)


def test_bad_arguments():
    eta, y = np.zeros((2, 3), "f4"), np.zeros(2, int)
    loss = losses.cumulative_logit_loss
    with pytest.raises(ValueError, match=r"labels outside \[0, 4\): \[4\]"):
        loss(eta, y + [0, 4])
    assert np.isnan(jax.jit(loss)(eta, y - 1)).all()
    with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(2,\)"):
        loss(eta, np.zeros(3, int))
    with pytest.raises(TypeError, match="labels has dtype float32, expected integers"):
        loss(eta, np.zeros(2, "f4"))
    with pytest.raises(TypeError, match="logits has dtype int"):
        loss(y, 0)
    with pytest.raises(ValueError, match=r"p_min is 1.0, expected a number from 0 on"):
        loss(eta, y, p_min=1.0)
    with pytest.raises(ValueError, match=r"thresholds has shape \(1, 2\), expected"):
        ordinal.proportional_odds_loss(np.float32(0), 0, np.zeros((1, 2), "f4"))
    with pytest.raises(ValueError, match=r"psi has shape \(\), expected thresholds"):
        ordinal.presto_penalty(1.0)
    with pytest.raises(ValueError, match=r"l2 is -1.0, expected at least 0"):
        ordinal.presto_penalty(eta, l2=-1.0)


def coral(z, y, weights=1.0):
    """Loss and gradient in float64, as sums over the binary tasks of the paper."""
    z, above = np.asarray(z, np.float64), np.arange(1, len(z) + 1) <= y
    loss = -(weights * np.where(above, log_expit(z), log_expit(-z))).sum()
    return loss, weights * np.where(above, -expit(-z), expit(z))


def corn(z, y):
    """Minus the log of the product of conditional probabilities, and its gradient."""
    z, k = np.asarray(z, np.float64), np.arange(1, len(z) + 1)
    loss = -log_expit(z[k <= y]).sum() - log_expit(-z[k == y + 1]).sum()
    return loss, np.where(k <= y, -expit(-z), np.where(k == y + 1, expit(z), 0))


BINARY = {"coral_loss": coral, "corn_loss": corn}


@pytest.mark.parametrize("name", BINARY)
def test_binary_tasks(name):
    margins = [-80, -30, -17, -1, -1e-3, 0, 5, 20, 80]
    z = np.float32(list(itertools.product(margins, repeat=2)))
    run = jax.jit(jax.value_and_grad(lambda *a: getattr(losses, name)(*a).sum()))
    each = jax.jit(getattr(losses, name))
    for y in range(3):
        labels = np.full(len(z), y)
        want = [BINARY[name](row, y) for row in z]
        np.testing.assert_allclose(each(z, labels), [v for v, _ in want], 1e-6)
        np.testing.assert_allclose(run(z, labels)[1], [g for _, g in want], 2e-6, 1e-37)


def test_corn_is_a_likelihood(x64):
    z = np.random.default_rng(5).normal(size=(1, 4)) * 3
    z = np.tile(z, (5, 1))
    total = np.exp(-np.asarray(ordinal.corn_loss(z, np.arange(5)))).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    at_least = np.exp(np.cumsum(log_expit(z[0])))
    probs = np.exp(-np.asarray(ordinal.corn_loss(z, np.arange(5))))
    np.testing.assert_allclose(np.cumsum(probs[::-1])[::-1][1:], at_least, rtol=1e-12)


def test_coral_weights_and_labels():
    z = np.float32([[1, -2, np.inf], [0.5, 3, -1]])
    w = np.float32([2, 0.5, 0])  # 0 beside an infinite term
    y = np.array([2, -100])
    got = ordinal.coral_loss(z, y, w)
    want, slope = coral(z[0, :2], 2, w[:2].astype("f8"))
    np.testing.assert_allclose(got[0], want, 1e-6)
    assert np.isnan(got[1])
    grad = jax.grad(lambda z: losses.coral_loss(z, y, w)[0])(z)
    np.testing.assert_allclose(grad, [[*slope, 0], [0, 0, 0]], 1e-6)
    wide = np.zeros((2, 200), "f4")
    for dtype in (np.uint8, np.int8, np.int64):
        labels = np.array([3, 127], dtype)
        for loss in (ordinal.coral_loss, ordinal.corn_loss):
            same = loss(wide, labels.astype(np.int32))
            np.testing.assert_array_equal(loss(wide, labels), same)
    for loss in (losses.coral_loss, losses.corn_loss):
        with pytest.raises(ValueError, match=r"labels outside \[0, 4\): \[4\]"):
            loss(z, np.array([0, 4]))
        np.testing.assert_array_equal(loss(z.T, y, axis=0), loss(z, y))
    with pytest.raises(ValueError, match=r"weights has shape \(2,\), expected \(3,\)"):
        ordinal.coral_loss(z, y, w[:2])


def test_scalars_decide_no_dtype(x64):
    z, y = np.zeros((2, 3), "f4"), np.zeros(2, int)
    one = np.float64(0.5)
    assert ordinal.cumulative_logit_loss(z, y, p_min=one).dtype == np.float32
    assert ordinal.presto_penalty(z, l1=one, l2=one).dtype == np.float32
    traced = jax.jit(lambda p: losses.cumulative_logit_loss(z, y, p_min=p))
    assert traced(0.1).dtype == np.float32


def test_a_weight_of_0_beside_infinite_numbers():
    psi = np.float32([[np.inf, 1e30]])
    assert ordinal.presto_penalty(psi, l1=0.0, l2=0.0) == 0
    assert ordinal.presto_penalty(psi[:, 1:], l1=1.0, l2=0.0) == np.float32(1e30)
    grad = jax.grad(lambda p: losses.presto_penalty(p, l1=0.0, l2=0.0))(psi)
    np.testing.assert_array_equal(grad, 0)
