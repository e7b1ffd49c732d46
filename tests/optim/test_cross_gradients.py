import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import cases
from harness.interpreter import functions, interpreted
from hypothesis import given, settings
from hypothesis import strategies as st

from logitlab import links, losses, numerics, optim

links, losses = functions(links), functions(losses)

CASES = cases("cross_convex_tangent")
DENSITIES = {
    "gaussian": lambda z: z**2 / 2 + jnp.log(2 * jnp.pi) / 2,
    "logistic": lambda z: z + 2 * jax.nn.softplus(-z),
    "sech": lambda z: jnp.logaddexp(z, -z) + jnp.log(jnp.pi),
    "gumbel": lambda z: z + jnp.exp(-z),
}
M, C = 3, 3
sum_loss = interpreted(losses.sum_log_concave_loss, static_argnames="axis")


def ways(z, y):
    """Partial losses of a checkered model: one for each way to draw the label."""
    log_p = jax.nn.log_softmax(z)
    free = itertools.product(range(C), repeat=M - 1)
    draws = jnp.array([(*d, 0) for d in free])
    draws = draws.at[:, -1].set((y - draws.sum(-1)) % C)
    return -log_p[jnp.arange(M), draws].sum(-1)


def partial_losses(theta, x, y):
    z = jnp.einsum("nd,dmc->nmc", x, theta["kernel"]) + theta["bias"][None]
    return jax.vmap(ways)(z, y)


def problem(seed=0, rows=6, d=4):
    rng = np.random.default_rng(seed)
    theta = {"kernel": rng.normal(size=(d, M, C)), "bias": rng.normal(size=(M, C))}
    x, y = rng.normal(size=(rows, d)), np.arange(rows) % C
    return jax.tree.map(lambda a: a.astype("f4"), theta), x.astype("f4"), y


def factor_logits(theta, x):
    return jnp.einsum("nd,dmc->nmc", x, theta["kernel"]) + theta["bias"][None]


def assert_trees(a, b, rtol=1e-5):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        size = np.abs(other).max()
        assert np.abs(np.asarray(one) - np.asarray(other)).max() <= rtol * size


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c["params"]["p"])
def test_golden(x64, case):
    loss = DENSITIES[case["params"]["p"]]

    def partials(theta):
        return loss(theta)

    at = jnp.array([case["params"]["a"], case["params"]["b"]])
    others = jnp.stack([jnp.array(case["inputs"][k]) for k in "xy"], -1)
    want = case["outputs"]
    value, grad = interpreted(optim.value_and_cross_grad(partials))(at)
    np.testing.assert_allclose(value, want["F_ab"], rtol=1e-9)
    np.testing.assert_allclose(grad, want["grad_at_ab"], rtol=1e-9)
    f = sum_loss(loss(others))
    np.testing.assert_allclose(f, want["F"], rtol=1e-9)
    bound = interpreted(
        jax.vmap(lambda b: optim.cross_convex_lower_bound(partials, at, b))
    )(others)
    np.testing.assert_allclose(bound, want["tangent"], rtol=1e-9)
    tangent = value + (others - at[None]) @ grad
    np.testing.assert_allclose(tangent - bound, want["kl"], rtol=1e-8, atol=1e-12)


def test_the_loss_is_minus_the_log_of_the_sum():
    z = np.random.default_rng(0).normal(size=(5, 4)).astype("f4")
    np.testing.assert_allclose(
        sum_loss(z), -np.log(np.exp(-z.astype("f8")).sum(-1)), 1e-5
    )
    np.testing.assert_allclose(sum_loss(z.T, axis=0), sum_loss(z))
    # a sum near 1: of all ways to an even number of failures
    for margin in (17.0, 40.0, 80.0):
        even, _ = jax.jit(links.checkoid_log)(
            np.float32([margin, margin + 1, margin + 2])
        )
        log_p, log_q = (
            -np.log1p(np.exp(s * np.float64([margin, margin + 1, margin + 2])))
            for s in (-1, 1)
        )
        terms = [log_p.sum()] + [log_p[k] + np.delete(log_q, k).sum() for k in range(3)]
        got = jax.jit(sum_loss)(-np.float32(terms))
        np.testing.assert_allclose(got, -even, rtol=1e-5)
        partial = -np.float32([even, -200])
        alone = sum_loss(partial[:1])
        np.testing.assert_array_equal(alone, -even)
    inf = np.float32([np.inf, 1.0])
    value, slope = jax.jit(jax.value_and_grad(sum_loss))(inf)
    assert value == 1
    np.testing.assert_array_equal(slope, [0, 1])
    assert sum_loss(np.float32([np.inf] * 2)) == np.inf


def test_derivatives(x64):
    z = np.random.default_rng(0).normal(size=(3, 4))
    check_derivatives(sum_loss, z)
    q = np.exp(z[::-1]) / np.exp(z[::-1]).sum(-1, keepdims=True)
    check_derivatives(lambda z: losses.checkered_cross_loss(z, q), z)


def test_seen_from_itself_it_is_the_gradient():
    theta, x, y = problem()

    def mean(theta):
        log_p = links.checkered(factor_logits(theta, x))
        return -jnp.take_along_axis(log_p, y[:, None], -1).mean()

    want = interpreted(jax.value_and_grad(mean))(theta)
    for reference in (None, theta):
        got = interpreted(
            lambda t, r=reference: optim.value_and_cross_grad(
                partial_losses, reference=r
            )(t, x, y)
        )(theta)
        assert_trees(got, want)


def test_weights_are_those_of_the_reference():
    (theta, x, y), (eta, *_) = problem(), problem(1)
    mu = interpreted(lambda t: jax.nn.softmax(-partial_losses(t, x, y)))(eta)
    seen, given = (
        interpreted(optim.value_and_cross_grad(partial_losses, **how))(theta, x, y)
        for how in (dict(reference=eta), dict(weights=mu))
    )
    assert_trees(seen, given)

    def one(x, y, mu):
        f = lambda t: partial_losses(t, x[None], y[None])[0]  # noqa: E731
        return optim.cross_gradient(f, theta, mu)

    each = interpreted(jax.vmap(one))(x, y, mu)  # by linearity, example by example
    assert_trees(given[1], jax.tree.map(lambda g: g.mean(0), each))


def test_responsibilities_are_enough():
    """Of the weights, a checkered model only takes what each factor drew."""
    (theta, x, y), (eta, *_) = problem(), problem(1)
    seen = optim.value_and_cross_grad(partial_losses, reference=eta)
    value, want = interpreted(seen)(theta, x, y)
    q = links.checkered_responsibilities(factor_logits(eta, x), y)

    def convex(theta):
        return losses.checkered_cross_loss(factor_logits(theta, x), q).mean()

    assert_trees(interpreted(jax.grad(convex))(theta), want)
    nll = losses.cross_entropy(links.checkered(factor_logits(theta, x)), y).mean()
    np.testing.assert_allclose(value, nll, rtol=1e-5)
    # and seen from itself it is the slope of the loss
    q = links.checkered_responsibilities(factor_logits(theta, x), y)
    nll = lambda t: losses.cross_entropy(  # noqa: E731
        links.checkered(factor_logits(t, x)), y
    ).mean()
    slope = interpreted(jax.grad(nll))(theta)
    assert_trees(interpreted(jax.grad(convex))(theta), slope)


@interpreted
def bounds_of(theta, eta, other, mu, x, y):
    """The loss at ``eta``; its bounds from ``theta`` and from there, however seen."""
    f = lambda t: partial_losses(t, x, y)  # noqa: E731
    bound = optim.cross_convex_lower_bound
    views = {}, {"reference": eta}, {"reference": other}, {"weights": mu}
    return losses.sum_log_concave_loss(f(eta)).mean(), [
        (bound(f, theta, eta, **seen), bound(f, eta, eta, **seen)) for seen in views
    ]


@given(seed=st.integers(0, 99), scale=st.floats(0.1, 5))
@settings(max_examples=20, deadline=None)
def test_lower_bound(seed, scale):
    (theta, x, y), (eta, *_), (other, *_) = (
        problem(seed),
        problem(-seed + 200),
        problem(7),
    )
    eta = jax.tree.map(lambda a: scale * a, eta)
    mu = np.random.default_rng(seed).dirichlet(np.ones(C ** (M - 1)), len(y))
    value, bounds = bounds_of(theta, eta, other, mu.astype("f4"), x, y)
    for bound, touching in bounds:
        assert bound <= value + 1e-4 * (1 + abs(value))
        np.testing.assert_allclose(touching, value, rtol=1e-4)


def test_one_partial_loss_is_plain_descent():
    f = lambda t: jnp.sum((t - 3) ** 2)[None]  # noqa: E731
    theta = jnp.float32([1, 2])
    seen = optim.value_and_cross_grad(f, reference=theta * 0)
    value, grad = interpreted(seen)(theta)
    assert value == 5
    np.testing.assert_allclose(grad, jax.grad(lambda t: f(t)[0])(theta))


def test_aux_and_reduce():
    theta, x, y = problem()
    mask = np.arange(len(y)) < 4

    def with_aux(theta, x, y):
        return partial_losses(theta, x, y), {"rows": x.shape[0]}

    seen = optim.value_and_cross_grad(
        with_aux, reduce=lambda a: numerics.masked_mean(a, mask), has_aux=True
    )
    (value, aux), grads = interpreted(seen)(theta, x, y)
    plain = interpreted(optim.value_and_cross_grad(partial_losses))
    want = plain(theta, x[:4], y[:4])
    assert aux == {"rows": len(y)}
    assert_trees((value, grads), want)


@functools.cache
def step_of(optimizer):
    @jax.jit
    def step(theta, state, x, y):
        seen = optim.value_and_cross_grad(partial_losses, reference=state.reference)
        value, grads = seen(theta, x, y)
        updates, state = optimizer.update(grads, state, theta)
        return optax.apply_updates(theta, updates), state, value

    return step


def descend(optimizer, theta, x, y, steps):
    state, value = optimizer.init(theta), None
    for _ in range(steps):
        theta, state, value = step_of(optimizer)(theta, state, x, y)
    return theta, state, value


def test_xgd_leaves_the_saddle_and_beats_its_reference():
    theta, x, y = problem(rows=12)
    zero = jax.tree.map(jnp.zeros_like, theta)
    nll = lambda t: losses.cross_entropy(  # noqa: E731
        links.checkered(factor_logits(t, x)), y
    ).mean()
    flat = interpreted(jax.grad(nll))(zero)
    assert not any(np.any(g) for g in jax.tree.leaves(flat))
    fixed = optim.xgd(0.5, reference=theta, refresh_every=None)
    _, state, value = descend(fixed, zero, x, y, 300)
    assert_trees(state.reference, theta, 0)
    at_reference = sum_loss(interpreted(partial_losses)(theta, x, y)).mean()
    assert value < at_reference
    refreshed = optim.xgd(0.5, reference=theta, refresh_every=10)
    assert descend(refreshed, zero, x, y, 300)[2] < value


def test_reference_is_refreshed_every_so_often():
    theta, x, y = problem()
    optimizer = optim.xgd(0.1, reference=theta, refresh_every=3)
    for steps in (1, 2, 3, 4, 6):
        at = descend(optimizer, theta, x, y, steps - steps % 3)[0]
        state = descend(optimizer, theta, x, y, steps)[1]
        assert_trees(state.reference, at, 1e-6)
        assert state.count == steps
    every = optim.xgd(0.1, reference=theta, refresh_every=1)
    got = descend(every, theta, x, y, 5)[0]
    plain, slope = theta, interpreted(optim.value_and_cross_grad(partial_losses))
    for _ in range(5):
        grads = slope(plain, x, y)[1]
        plain = jax.tree.map(lambda p, g: p - 0.1 * g, plain, grads)
    assert_trees(got, plain, 1e-5)


def test_xgd_takes_any_optimizer_and_chains():
    theta, x, y = problem()
    draw = optim.random_point(jax.random.key(3), scale=2.0)
    inner = optax.chain(optax.clip(0.1), optax.adam(0.01))
    state = optim.xgd(inner, reference=draw).init(theta)
    assert_trees(state.reference, draw(theta), 0)
    spread = np.std(
        np.concatenate(
            [
                a.ravel()
                for a in jax.tree.leaves(
                    draw(jax.tree.map(lambda a: jnp.zeros((50, 50)), theta))
                )
            ]
        )
    )
    assert abs(spread - 2) < 0.1
    descend(optim.xgd(inner, reference=draw), theta, x, y, 2)
    chained = optax.chain(optax.clip(1.0), optim.xgd(0.1, reference=draw))
    grads = jax.tree.map(jnp.ones_like, theta)
    updates, _ = chained.update(grads, chained.init(theta), theta)
    assert_trees(updates, jax.tree.map(lambda g: -0.1 * g, grads))


def test_schedule_of_the_theorem():
    schedule = optim.subgradient_schedule(3.0, 2.0)
    np.testing.assert_allclose(
        [schedule(t) for t in range(4)], 1.5 / np.sqrt([1, 2, 3, 4])
    )
    for bad in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="expected a positive number"):
            optim.subgradient_schedule(*bad)


def test_errors():
    theta, x, y = problem()
    f = partial_losses
    with pytest.raises(ValueError, match="reference and weights are both given"):
        optim.value_and_cross_grad(f, reference=theta, weights=np.ones(9) / 9)
    wrong = dict(theta, bias=np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match=r"reference\['bias'\] has shape \(2, 2\), expe"
    ):
        optim.value_and_cross_grad(f, reference=wrong)(theta, x, y)
    with pytest.raises(ValueError, match=r"point\['bias'\] has shape"):
        optim.cross_convex_lower_bound(lambda t: f(t, x, y), theta, wrong)
    with pytest.raises(ValueError, match="reference is laid out as"):
        optim.value_and_cross_grad(f, reference=theta["bias"])(theta, x, y)
    for bad, message in (
        (np.ones(9, "f4"), "adds up to 9"),
        (np.float32([2, -1] + [0] * 7), "-1.0 as its smallest number"),
        (np.float32([np.nan] * 9), "simplex"),
        (np.ones(4, "f4") / 4, r"weights has shape \(4,\), expected one that broadc"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.value_and_cross_grad(f, weights=bad)(theta, x, y)
    with pytest.raises(ValueError, match="refresh_every is 0"):
        optim.xgd(0.1, reference=theta, refresh_every=0)
    with pytest.raises(ValueError, match=r"reference\['bias'\] has shape"):
        optim.xgd(0.1, reference=wrong).init(theta)
    optimizer = optim.xgd(0.1, reference=theta)
    with pytest.raises(ValueError, match="xgd needs params"):
        optimizer.update(theta, optimizer.init(theta))
