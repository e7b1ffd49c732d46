import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted
from scipy.optimize import lsq_linear

from logitlab.losses import presto_penalty
from logitlab.optim import fused_soft_threshold, soft_threshold, tv_prox

prox = interpreted(tv_prox, static_argnames=("axis", "anchored"))
compiled = jax.jit(tv_prox, static_argnames=("axis", "anchored"))


def dual(x, lam, anchored):
    """The prox from its dual, a least-squares problem in a box: x - D^T u."""
    d = np.eye(len(x)) - np.eye(len(x), k=-1)
    d = d if anchored else d[1:]
    if not len(d) or lam == 0:
        return x
    fit = lsq_linear(d.T, x, (-lam, lam), method="bvls", tol=1e-14, max_iter=1000)
    return x - d.T @ fit.x


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_tv_prox_is_exact(x64, size, anchored):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(12, size)) + rng.integers(-2, 3, (12, size))
    x[0] = np.round(x[0])  # ties
    for lam in (0.0, 1e-3, 0.3, 1.0, 2.0, 10.0, np.inf):
        got = prox(x, lam, anchored=anchored)
        want = [dual(row, min(lam, 1e3), anchored) for row in x]
        np.testing.assert_allclose(got, want, atol=1e-9)
    some = prox(x, 0.3, anchored=anchored)
    single = prox(x.astype("f4"), np.float32(0.3), anchored=anchored)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, some, atol=1e-5)


def test_tv_prox_fuses_exactly():
    x = np.float32([[0.1, 0.2, 3.3, 3.1, 3.2], [-0.7, -0.4, -0.3, 5.3, 5.1]])
    fused = np.asarray(compiled(x, 0.5))
    np.testing.assert_array_equal(fused[0], fused[0][[0, 0, 2, 2, 2]])
    zeros = np.asarray(compiled(x, 0.9, anchored=True))
    np.testing.assert_array_equal(zeros[1, :3], 0)
    assert zeros[1, 3] == zeros[1, 4] > 4
    np.testing.assert_array_equal(compiled(x, 1e30, anchored=True), 0)
    flat = np.asarray(compiled(x, 1e30))
    np.testing.assert_allclose(flat, x.mean(-1, keepdims=True) + 0 * x, 1e-5)
    np.testing.assert_array_equal(compiled(x.T, 0.5, axis=0), fused.T)
    assert compiled(np.zeros((0, 3), "f4"), 1.0).shape == (0, 3)


def test_a_long_sequence():
    rng = np.random.default_rng(0)
    steps = np.repeat([0.0, 4, -2, 1], 250)
    x = np.float32(steps + rng.normal(size=1000))
    out = np.asarray(compiled(x, 8.0))
    assert (np.diff(out) != 0).sum() < 30
    assert np.abs(out - steps).mean() < 0.15
    # Optimal: x - v is D^T u with |u| <= lambda, and = where the sequence jumps.
    u = -np.cumsum((x - out).astype(np.float64))[:-1]
    assert np.abs(u).max() <= 8 + 1e-2
    jumps = np.diff(out)
    np.testing.assert_allclose(u[jumps != 0], 8 * np.sign(jumps[jumps != 0]), atol=1e-2)


def test_soft_threshold():
    x = np.float32([-3, -1, 0, 0.5, 2])
    np.testing.assert_array_equal(soft_threshold(x, 1.0), [-2, 0, 0, 0, 1])
    np.testing.assert_array_equal(soft_threshold(x, 0.0), x)


@pytest.mark.parametrize("increments", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_proximal_descent_solves_the_penalised_problem(x64, increments, first):
    """The weights of both parametrisations are those of the same convex problem."""
    rng = np.random.default_rng(0)
    target, l1 = rng.normal(size=(4, 3)) + 1, 0.4

    def smooth(w):
        return 0.5 * jnp.sum((jnp.cumsum(w, 0) if increments else w) ** 2) - jnp.sum(
            (jnp.cumsum(w, 0) if increments else w) * target
        )

    rate = 0.1
    optimizer = optax.chain(
        optax.sgd(rate),
        fused_soft_threshold(rate, l1=l1, penalize_first=first, increments=increments),
    )
    w = jnp.zeros_like(target)
    state = optimizer.init(w)

    @jax.jit
    def run(w, state):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(jax.grad(smooth)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(step, (w, state), length=1500)[0]

    w, state = run(w, state)
    assert state[1].count == 1500
    beta = np.cumsum(w, 0) if increments else np.asarray(w)
    want = np.stack([dual(c, l1, first) for c in target.T], 1)
    np.testing.assert_allclose(beta, want, atol=1e-8)
    if increments:
        zeros = np.abs(np.diff(want, axis=0)) < 1e-12
        assert zeros.any()
        assert (np.asarray(w)[1:][zeros] == 0).all()  # not merely small


def test_the_step_minimises_what_it_says(x64):
    rng = np.random.default_rng(1)
    w, u = rng.normal(size=(2, 3, 2))
    transform = fused_soft_threshold(0.5, l1=0.6, l2=0.3, penalize_first=False)
    updates, _ = transform.update(u, transform.init(w), w)
    best = w + updates

    def cost(v):
        penalty = presto_penalty(v, l1=0.6, l2=0.3, penalize_first=False)
        return 0.5 * ((v - w - u) ** 2).sum() + 0.5 * penalty

    for _ in range(50):
        assert cost(best + 1e-3 * rng.normal(size=w.shape)) > cost(best)


def test_schedule_mask_and_dtypes():
    params = {"psi": jnp.ones((2, 3), "bfloat16"), "bias": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)
    rate = optax.piecewise_constant_schedule(0.25, {1: 4.0})
    transform = fused_soft_threshold(rate, mask={"psi": True, "bias": False})
    state = transform.init(params)
    for want in (0.75, 0.0):  # thresholds of 0.25, then 1
        updates, state = jax.jit(transform.update)(zero, state, params)
        assert updates["psi"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(updates["bias"], 0)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(np.float32(params["psi"]), want)


def test_learning_rates_may_be_traced():
    def step(rate):
        transform = fused_soft_threshold(rate, l1=rate)
        w = jnp.float32([1, 2])
        return w + transform.update(-w * 0, transform.init(w), w)[0]

    got = jax.jit(jax.vmap(step))(np.float32([0, 1, 2]))
    np.testing.assert_array_equal(got, [[1, 2], [0, 1], [0, 0]])


def test_bad_arguments():
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="l1 is -1, expected a number from 0 on"):
        fused_soft_threshold(0.1, l1=-1)
    with pytest.raises(ValueError, match="learning_rate is -0.1"):
        fused_soft_threshold(-0.1)
    with pytest.raises(ValueError, match="l2 is 1.0, expected 0 with"):
        fused_soft_threshold(0.1, l2=1.0, increments=False)
    with pytest.raises(ValueError, match="needs params"):
        fused_soft_threshold(0.1).update(w, None)
    transform = fused_soft_threshold(0.1, axis=1)
    with pytest.raises(ValueError, match=r"leaf of shape \(2,\) without axis 1"):
        transform.update(w, transform.init(w), w)
    with pytest.raises(ValueError, match=r"strength is -1.0, expected"):
        tv_prox(w, -1.0)
    with pytest.raises(ValueError, match=r"strength has shape \(2,\), expected \(\)"):
        tv_prox(w, w)
    with pytest.raises(TypeError, match="x has dtype int"):
        tv_prox(np.arange(3), 1.0)
