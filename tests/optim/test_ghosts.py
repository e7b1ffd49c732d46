import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import numerics, optim


def network(x):
    def logits(params):
        w1, b1, w2, b2 = params
        return jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None]

    return logits


@pytest.mark.parametrize("case", cases("ghost_radius"))
@pytest.mark.usefixtures("x64")
def test_golden_radius(case):
    names = ("W1", "b1", "W2", "b2")
    params, step = arrays(case, *names), arrays(case, *("d" + name for name in names))
    logits_fn, want = network(arrays(case, "x")[0]), case["outputs"]
    norm = want["update_norm"]

    def measured(params, step):
        slopes = optim.logit_slopes(logits_fn, params, step)
        each = optim.ghost_radius(logits_fn, params, step, reduce="per_example")
        radius = optim.ghost_radius(logits_fn, params, step)
        r = optim.normalized_step(logits_fn, params, step)
        hot = optim.ghost_radius(logits_fn, params, step, temperature=3.0)
        return slopes, each, radius, r, hot

    slopes, each, radius, r, hot = interpreted(measured)(params, step)
    close(slopes / norm, want["logit_slopes_unit_direction"])
    close(each, want["rho_per_sample"])
    close(radius, want["rho_batch"])
    close(r, want["normalized_step_r"])
    close(hot, 3 * np.asarray(want["rho_batch"]))
    cap = optim.cap_by_ghost_radius()
    capped, state = cap.update(step, cap.init(params), params, logits_fn=logits_fn)
    close(capped[0], want["capped_scale"] * step[0], 1e-6)
    close(state.scale, want["capped_scale"], 1e-6)


@pytest.mark.parametrize("case", cases("ghost_kl"))
@pytest.mark.usefixtures("x64")
def test_golden_divergence(case):
    """The bound along the line, of which the radius is the scale."""
    z, a = arrays(case, "logits", "slopes")
    tau, want = case["params"]["tau"], case["outputs"]
    p = np.asarray(numerics.softmax(z))
    moved = numerics.log_softmax(z + tau * a)
    exact = (np.exp(moved) * (moved - numerics.log_softmax(z))).sum(-1)
    close(exact, want["kl_shifted_to_base"], 1e-6)
    variance = (p * (a - (p * a).sum(-1, keepdims=True)) ** 2).sum(-1)
    close(variance, want["variance"])
    unit = np.pi / np.asarray(
        optim.normalized_step(lambda w: w, z, a, reduce="per_example")
    )
    spread = np.pi**2 / unit
    close(spread, want["spread"])
    back = (p * (numerics.log_softmax(z) - moved)).sum(-1)
    bound = (tau * spread) ** 3 / (36 * 3**0.5)
    assert (np.abs(back - tau**2 / 2 * variance) <= bound).all()


def nearest_zero(logits, slopes):
    """Of a partition function with whole slopes: the roots of a polynomial in e^t."""
    powers = np.asarray(slopes) - min(slopes)
    coefficients = np.zeros(powers.max() + 1)
    np.add.at(coefficients, powers, np.exp(logits))
    return np.abs(np.log(np.roots(coefficients[::-1]).astype(complex))).min()


@pytest.mark.usefixtures("x64")
def test_worked_example():
    z, a = np.array([2.0, 0, -1]), np.array([1.0, -2, 0])
    assert abs(nearest_zero(z, a.astype(int)) - 1.273449) < 5e-7
    radius = optim.ghost_radius(lambda w: w, z, a / np.linalg.norm(a))
    np.testing.assert_allclose(radius / np.linalg.norm(a), np.pi / 3, rtol=1e-12)
    binary = optim.exact_binary_radius(z[:2], a[:2])
    np.testing.assert_allclose(binary, nearest_zero(z[:2], np.array([1, -2])))
    np.testing.assert_allclose(binary, 1.241397, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_no_zero_is_nearer_than_the_radius():
    rng = np.random.default_rng(0)
    for _ in range(50):
        z, a = rng.normal(size=4) * 3, rng.integers(-4, 5, 4)
        if a.min() < a.max():
            assert nearest_zero(z, a) >= np.pi / (a.max() - a.min()) - 1e-9


def test_quantiles_and_examples_that_do_not_move():
    slopes = jnp.float32([[0, 0], [0, 1], [0, 2], [0, 3], [0, 100]])
    step = optim.normalized_step(lambda w: w, slopes, slopes, reduce=0.5)
    np.testing.assert_allclose(step, 2 / np.pi, rtol=1e-6)
    still = optim.ghost_radius(lambda w: w, slopes, jnp.ones((5, 2)))
    assert still == np.inf
    assert optim.exact_binary_radius(jnp.zeros(2), jnp.ones(2)) == np.inf
    cap = optim.cap_by_ghost_radius(quantile=0.5)
    same, state = cap.update(slopes, cap.init(slopes), slopes, logits_fn=lambda w: w)
    np.testing.assert_array_equal(same, slopes)
    assert (state.scale, state.capped) == (1, 0)


def test_updates_that_are_not_finite_become_zero():
    cap, w = optim.cap_by_ghost_radius(), {"a": jnp.ones(2), "b": jnp.ones(())}
    for bad in (np.nan, np.inf):
        step = {"a": jnp.float32([bad, 1]), "b": jnp.ones(())}
        for logits_fn in (lambda w: w["a"], lambda w: w["b"] * jnp.ones(2)):
            got, state = cap.update(step, cap.init(w), w, logits_fn=logits_fn)
            assert all((a == 0).all() for a in jax.tree.leaves(got))
            assert (state.scale, state.refused, state.capped) == (0, 1, 0)


def test_integers_and_half_precision():
    """Integer leaves do not move; 16-bit updates stay 16-bit."""
    w = {"w": jnp.ones(3, jnp.bfloat16), "n": jnp.array([2, 1, 0])}
    step = {"w": jnp.full(3, 100, jnp.bfloat16), "n": jnp.zeros(3, int)}
    logits_fn = lambda w: w["w"] * w["n"]  # noqa: E731
    cap = optim.cap_by_ghost_radius()
    got, state = cap.update(step, cap.init(w), w, logits_fn=logits_fn)
    assert got["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(got["w"].astype("f4"), np.pi / 2, rtol=1e-2)
    np.testing.assert_allclose(state.r, 200 / np.pi, rtol=1e-2)


def test_one_derivative_of_the_logits_and_little_else():
    x = jax.random.normal(jax.random.key(0), (64, 32))
    params = jax.tree.map(
        jnp.ones, [(32, 64), (64,), (64, 10), (10,)], is_leaf=is_shape
    )
    step = jax.tree.map(lambda a: a * 0.1, params)
    cap, logits_fn = optim.cap_by_ghost_radius(), network(x)
    state = cap.init(params)

    def loss(params):
        return jax.nn.logsumexp(logits_fn(params), -1).mean()

    def flops(function, *args):
        return quick_jit(function).lower(*args).compile().cost_analysis()["flops"]

    jvp = flops(lambda p, u: optim.logit_slopes(logits_fn, p, u), params, step)
    capped = flops(
        lambda p, u: cap.update(u, state, p, logits_fn=logits_fn), params, step
    )
    plain = flops(jax.grad(loss), params)
    assert capped <= jvp + 0.1 * plain


def is_shape(node):
    return isinstance(node, tuple)


def test_errors():
    fn, w = (lambda w: w), jnp.ones(2)
    with pytest.raises(ValueError, match="temperature is 0, expected positive"):
        optim.normalized_step(fn, w, w, temperature=0)
    with pytest.raises(ValueError, match="reduce is 'mean', expected one of max"):
        optim.ghost_radius(fn, w, w, reduce="mean")
    with pytest.raises(ValueError, match="target_r is 0, expected positive"):
        optim.cap_by_ghost_radius(0)
    with pytest.raises(ValueError, match="a quantile in"):
        optim.cap_by_ghost_radius(quantile=2.0)
    with pytest.raises(ValueError, match="needs params"):
        optim.cap_by_ghost_radius().update(w, None, logits_fn=fn)
    with pytest.raises(TypeError, match="logits_fn"):
        optim.cap_by_ghost_radius().update(w, None, w)
    with pytest.raises(ValueError, match="at least two classes"):
        optim.exact_binary_radius(jnp.ones(1), jnp.ones(1))
    chained = optax.chain(optim.cap_by_ghost_radius(), optax.identity())
    with pytest.raises(TypeError, match="logits_fn"):
        chained.update(w, chained.init(w), w)
