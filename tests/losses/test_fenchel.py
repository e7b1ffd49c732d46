import functools

import jax
import numpy as np
import pytest
from harness.goldens import cases, error
from harness.interpreter import interpreted

from logitlab import links
from logitlab.losses import cross_entropy
from logitlab.losses.fenchel import fenchel_young_loss, fenchel_young_max_loss

CASES = cases("entmax")


@functools.partial(interpreted, static_argnames="alpha")
def value_and_grad(z, labels, where=None, *, alpha):
    def total(z):
        loss = fenchel_young_loss(z, labels, alpha=alpha, where=where)
        return loss.sum(), loss

    (_, loss), grad = jax.value_and_grad(total, has_aux=True)(z)
    return loss, grad


# As users' programs are, for what rounding decides.
compiled = jax.jit(value_and_grad.__wrapped__, static_argnames="alpha")


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["params"]["alpha"]))
def test_golden(case, x64):
    z, y = (np.array(a) for a in case["inputs"].values())
    for labels in (y, np.eye(z.shape[-1])[y]):
        loss, grad = value_and_grad(z, labels, alpha=case["params"]["alpha"])
        assert error(loss, case["outputs"]["loss"]) < 1e-8
        assert error(grad, case["outputs"]["grad_logits"]) < 1e-8


@pytest.mark.parametrize("alpha", [1.0, 1.25, 3.0])
def test_definition(alpha, x64):
    rng = np.random.default_rng(0)
    z, q = rng.normal(size=(5, 6)), rng.dirichlet(np.ones(6), 5)
    q[0] = np.eye(6)[2]
    p = np.exp(interpreted(lambda z: links.entmax(z, alpha=alpha))(z))

    def entropy(p):
        if alpha == 1:
            return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
        return (1 - (p**alpha).sum(-1)) / (alpha * (alpha - 1))

    want = (p * z).sum(-1) + entropy(p) - entropy(q) - (z * q).sum(-1)
    loss, grad = value_and_grad(z, q, alpha=alpha)
    np.testing.assert_allclose(loss, want, atol=1e-12)
    np.testing.assert_allclose(grad, p - q, atol=1e-12)
    run = interpreted(lambda q: fenchel_young_loss(z, q, alpha=alpha))
    push = interpreted(lambda q, v: jax.jvp(run, (q,), (v,))[1])
    slope = push(q, np.tile(np.eye(6)[1], (5, 1)))
    h, unit = 1e-6, np.eye(6)[1]
    up, down = (np.asarray(run(q + step * unit))[1:] for step in (h, -h))
    np.testing.assert_allclose(slope[1:], (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


def test_special_cases(x64):
    z, y = np.random.default_rng(1).normal(size=(4, 5)) * 2, np.arange(4)
    ce = cross_entropy(z, y)
    np.testing.assert_allclose(value_and_grad(z, y, alpha=1.0)[0], ce)
    near, _ = value_and_grad(z, y, alpha=1 + 1e-9)
    np.testing.assert_allclose(near, ce, rtol=1e-7)
    perceptron = z.max(-1) - z[y, y]
    loss, _ = value_and_grad(z, np.eye(5)[y], alpha=np.inf)
    np.testing.assert_allclose(loss, perceptron)


@pytest.mark.sampled
@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0])
def test_exact_near_the_margin(alpha):
    end = 1 / (alpha - 1)
    margins = np.float32([-80, -5, 0, 0.5 * end, 0.9 * end, 0.99 * end, end, 80])
    z, y = np.stack([margins, 0 * margins], -1), np.zeros(8, int)
    got = compiled(z, y, alpha=alpha)
    with jax.enable_x64(True):
        want = compiled(z.astype(float), y, alpha=alpha)
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a)[:-2], np.asarray(b)[:-2]
        np.testing.assert_allclose(a, b, rtol=1e-4 if alpha == 1.1 else 1e-5)
    np.testing.assert_allclose(got[0][-2:], 0, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 1.5, np.inf])
def test_edges(alpha):
    big, inf = np.float32(1e30), np.inf
    ends = [[big, -big], [-big, big], [big, big], [1e4, 0], [0, 0]]
    z = np.float32([*ends, [-inf, 1], [-inf, -inf], [3, -inf]])
    loss, grad = map(np.asarray, compiled(z, np.zeros(8, int), alpha=alpha))
    assert not np.isnan(loss).any()
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(loss[5:], [inf, 0, 0])  # hidden label, none, alone
    np.testing.assert_array_equal(grad[5:], [[0, 1], [0, 0], [0, 0]])


def test_where_and_errors():
    where, z = np.array([True, False, True]), np.float32([0.5, np.nan, 0])
    fewer, _ = value_and_grad(z[[0, 2]], 0, alpha=1.5)
    same, _ = value_and_grad(z, 0, where, alpha=1.5)
    np.testing.assert_allclose(same, fewer, rtol=1e-6)
    assert np.isnan(value_and_grad(np.zeros(3), 3, alpha=1.5)[0])
    for labels, alpha, message in [
        (3, 1.5, "outside"),
        (0, 0.5, "alpha is 0.5"),
        (np.ones(2), 1.5, "labels has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            fenchel_young_loss(np.zeros(3), labels, alpha=alpha)


def layer_norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * 6.3


@pytest.mark.parametrize("alpha", [1.0, 1.25, 2.0])
@pytest.mark.parametrize("mass", [0.25, 1.0, 3.0])
def test_labels_of_any_mass(alpha, mass, x64):
    """The formula of the docstring; for alpha 1 cross-entropy less entropy."""
    rng = np.random.default_rng(3)
    z, q = rng.normal(size=(5, 6)) * 2, rng.dirichlet(np.ones(6), 5) * mass
    q[0] = np.eye(6)[2] * mass
    log_p = np.asarray(interpreted(lambda z: links.entmax(z, alpha=alpha))(z))
    p = np.exp(log_p)
    if alpha == 1:
        want = (q * (np.log(np.where(q > 0, q, 1)) - log_p)).sum(-1)
    else:
        omega = lambda p: (p**alpha - p).sum(-1) / (alpha * (alpha - 1))  # noqa: E731
        want = mass * ((p * z).sum(-1) - omega(p)) + omega(q) - (z * q).sum(-1)
    loss, grad = value_and_grad(z, q, alpha=alpha)
    np.testing.assert_allclose(loss, want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(grad, mass * p - q, atol=1e-12)
    moved, _ = value_and_grad(z + 7, q, alpha=alpha)
    np.testing.assert_allclose(moved, want, rtol=1e-11, atol=1e-11)
    run = interpreted(lambda q: fenchel_young_loss(z, q, alpha=alpha))
    push = interpreted(lambda q, v: jax.jvp(run, (q,), (v,))[1])
    h, unit = 1e-6 * mass, np.eye(6)[[1] * 5]
    up, down = (np.asarray(run(q + step * unit))[1:] for step in (h, -h))
    slope = push(q, unit)[1:]
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


def test_no_mass():
    q = np.zeros((1, 3), "f4")
    for alpha in (1.0, 1.5, np.inf):
        loss, grad = value_and_grad(np.float32([[1, 2, 3]]), q, alpha=alpha)
        assert loss == 0
        np.testing.assert_array_equal(grad, 0)


def test_distributions_are_exact_for_alpha_1():
    """A difference of `p` and `q` would leave a label without loss and slope."""
    margins = np.float32([-80, -40, -17, -1, 0, 5, 12, 17, 20, 40, 80])
    z = np.float32([[m, 0, -1.3, -2.6] for m in margins])
    y = np.eye(4, dtype="f4")[[0] * len(z)]
    got = compiled(z, y, alpha=1.0)
    with jax.enable_x64(True):
        want = compiled(z.astype("f8"), np.zeros(len(z), int), alpha=1.0)
    for a, b in zip(got, want, strict=True):
        a, b = (np.asarray(x).reshape(len(z), -1) for x in (a, b))
        off = np.abs(a - b).max(-1) / np.abs(b).max(-1)
        assert off.max() < 1e-5, off


def test_slopes_near_the_ends():
    """They come of the link's derivative alone, sparse rows and hidden classes too."""
    z = np.float32([[0.97, 0, -3], [0.5, 0, -3], [0.5, 0, -np.inf], [0, 0, 5]])
    z = np.concatenate([z, np.float32([[m, 0, -1.3] for m in (-80, -17, 20, 80)])])
    for alpha in (1.5, 2.0):
        for labels in (np.zeros(8, int), np.eye(3, dtype="f4")[[0] * 8]):
            grad = np.asarray(compiled(z, labels, alpha=alpha)[1])
            with jax.enable_x64(True):
                want = np.asarray(compiled(z.astype("f8"), labels, alpha=alpha)[1])
            scale = np.abs(want).max(-1, keepdims=True)
            assert (np.abs(grad - want) <= 1e-6 * scale).all()
    lost = np.float32([[-np.inf, 1, 0.5]])  # a hidden label, then its limit
    for alpha in (1.0, 1.5, 2.0):
        p = np.exp(links.entmax(lost[:, 1:], alpha=alpha))
        for labels in (np.zeros(1, int), np.float32([[1, 0, 0]])):
            value, grad = value_and_grad(lost, labels, alpha=alpha)
            assert value == np.inf
            np.testing.assert_allclose(grad[0], [0, *p[0]], rtol=1e-6)


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize("alpha", [1.5, 2.0, np.inf])
def test_zero_where_the_program_makes_the_logits(alpha):
    """The top score must be itself, though a norm is computed twice."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 100)).astype("f4"), rng.integers(0, 100, 64)
    x[np.arange(64), y] += 8

    def both(make):
        def total(x):
            loss = fenchel_young_loss(make(x), y, alpha=alpha)
            return loss.sum(), loss

        return jax.jit(jax.grad(total, has_aux=True))(x)

    for make in (layer_norm, lambda x: 30 * jax.numpy.tanh(x / 4)):
        grad, loss = both(make)
        z = np.asarray(jax.jit(make)(x), np.float64)
        own = z[np.arange(64), y].copy()
        z[np.arange(64), y] = -np.inf
        far = own - z.max(-1) >= 1 / (alpha - 1) + 1e-5
        assert far.any()
        np.testing.assert_array_equal(np.asarray(loss)[far], 0)
        np.testing.assert_array_equal(np.asarray(grad)[far], 0)
        assert np.isfinite(grad).all()


def test_labels_of_any_integer_dtype():
    z = np.random.default_rng(6).normal(size=(3, 256)).astype("f4")
    y = np.array([0, 65, 255])
    for alpha in (1.0, 1.5, np.inf):
        want = value_and_grad(z, y, alpha=alpha)[0]
        for dtype in (np.uint8, np.uint16, np.uint32):
            got = value_and_grad(z, y.astype(dtype), alpha=alpha)[0]
            np.testing.assert_array_equal(got, want)
        none = fenchel_young_loss(z, np.array([0, -100, 3], np.int8), alpha=alpha)
        np.testing.assert_array_equal(np.isnan(none), [False, True, False])


def test_perceptron_ties(x64):
    z = np.array([[1.0, 1, 0], [1, 1, 1], [2, 1, 0]])
    loss, grad = value_and_grad(z, np.array([1, 0, 0]), alpha=np.inf)
    np.testing.assert_array_equal(loss, 0)
    want = [[0.5, -0.5, 0], [-2 / 3, 1 / 3, 1 / 3], [0, 0, 0]]
    np.testing.assert_allclose(grad, want, atol=1e-15)


def softmax_max(z):
    return jax.nn.logsumexp(z)


def sparse_max(z):
    """The conjugate of half the squares, less a half, by its maximum."""
    p = jax.numpy.exp(links.entmax(z, alpha=2.0))
    shown = jax.numpy.where(p > 0, z, 0)
    return (p * shown).sum() - (p * p).sum() / 2 + 0.5


def half_squares(p):
    return ((p * p).sum() - 1) / 2


@pytest.mark.parametrize(
    ("max_fun", "omega", "alpha"),
    [(softmax_max, None, 1.0), (sparse_max, half_squares, 2.0)],
)
def test_of_a_max_function(max_fun, omega, alpha, x64):
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(4, 5)) * 2, np.array([0, 3, 4, -100])
    q = rng.dirichlet(np.ones(5), 4)

    def grads(z, labels, where=None):
        def total(z):
            loss = fenchel_young_max_loss(
                z, labels, max_fun=max_fun, omega=omega, where=where
            )
            return loss[:3].sum(), loss

        return interpreted(jax.grad(total, has_aux=True))(z)

    for labels in (y, q):
        grad, loss = grads(z, labels)
        want, slope = value_and_grad(z, labels, alpha=alpha)
        if alpha == 1 and labels is q:
            want = want - (q * np.log(q)).sum(-1)  # without the label's entropy
        np.testing.assert_allclose(loss, want, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(grad[:3], np.asarray(slope)[:3], atol=1e-10)
    where = np.array([[True, True, False, True, True]])
    _, loss = grads(np.where(where, z, np.nan), y, where)
    keep = [0, 1, 3, 4]
    _, want = grads(z[:, keep], np.array([0, 2, 3, -1]))
    np.testing.assert_allclose(loss, want, rtol=1e-10)


def test_of_a_max_function_at_the_edges():
    loss = functools.partial(fenchel_young_max_loss, max_fun=softmax_max)
    run = interpreted(jax.value_and_grad(loss))
    for z in ([1e30, -1e30], [1e4, 1e4], [-1e30, 1e30]):
        value, grad = run(np.float32(z), 0)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    value, grad = run(np.float32([-np.inf, 1]), 0)  # a hidden label, then its limit
    assert value == np.inf
    np.testing.assert_array_equal(grad, [0, 1])
    value, grad = run(np.float32([-np.inf] * 2), 0)
    assert value == 0
    np.testing.assert_array_equal(grad, 0)
    _, grad = run(np.float32([40, 0, -3]), 0)
    np.testing.assert_allclose(grad[0], -np.exp(-40.0) - np.exp(-43.0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(3,\)"):
        loss(np.zeros(3), np.ones(2))
    with pytest.raises(ValueError, match="outside"):
        loss(np.zeros(3), 3)
