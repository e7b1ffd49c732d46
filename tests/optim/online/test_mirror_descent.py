import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted
from harness.quickly import quick_jit
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.optim import OptimisticState, optimistic_hedge, optimistic_omd

MAKERS = {
    "euclidean": functools.partial(optimistic_omd, 0.1, offset=2.0),
    "entropy": functools.partial(optimistic_omd, 0.1, mirror="entropy"),
    "hedge": functools.partial(optimistic_hedge, 0.1),
}
PARAMS = {"w": jnp.float32([[0.25, 0.75], [0.5, 0.5]])}
GRADS = {"w": jnp.float32([[0.3, 0.1], [-0.2, 0.4]])}


def ball(x):
    return x / max(1, np.linalg.norm(x))


def played(transform, start, grads):
    """Points after each of the gradients."""
    update = interpreted(transform.update)
    x, state, path = start, transform.init(start), []
    for g in grads:
        change, state = update(g, state, x)
        x = x + change
        path.append(np.asarray(x))
    return np.stack(path), state


def test_euclidean_steps_are_those_of_the_definition(x64):
    rng = np.random.default_rng(0)
    grads, x, c = rng.normal(size=(6, 3)), np.zeros(3), 2.0
    project = functools.partial(optax.projections.projection_l2_ball, scale=1.0)
    transform = optimistic_omd(1.5, offset=c, projection=project)
    got, state = played(transform, jnp.asarray(x), grads)
    hat, last, variation, want = x, np.zeros(3), 0.0, []
    for g in grads:
        hat = ball(hat - 1.5 / np.sqrt(c + variation) * g)
        variation += np.sum((g - last) ** 2)
        last = g
        want.append(ball(hat - 1.5 / np.sqrt(c + variation) * g))
    np.testing.assert_allclose(got, want, atol=1e-9)
    np.testing.assert_allclose(state.variation, variation)
    assert state.count == 6


def test_a_schedule_sees_the_rounds(x64):
    grads = np.ones((3, 1))
    got, _ = played(optimistic_omd(lambda t: 1.0 + t), jnp.zeros(1), grads)
    steps = np.array([1, 2, 3])  # of the iterate; the guess has the next one
    np.testing.assert_allclose(got[:, 0], -np.cumsum(steps) - (steps + 1))


def test_entropy_and_hedge_are_exponential_weights(x64):
    rng = np.random.default_rng(1)
    losses, start = rng.uniform(size=(5, 4)), np.array([0.1, 0.2, 0.3, 0.4])
    totals = np.cumsum(losses, 0) + losses
    want = start * np.exp(-0.3 * totals)
    want /= want.sum(-1, keepdims=True)
    got, _ = played(optimistic_omd(0.3, mirror="entropy"), jnp.asarray(start), losses)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    logits, _ = played(optimistic_hedge(0.3), jnp.log(start), losses)
    np.testing.assert_allclose(jax.nn.softmax(logits, -1), want, rtol=1e-9)
    assert np.abs(logits).max() < 10


@pytest.mark.parametrize("name", MAKERS)
def test_with_optax(name):
    make = MAKERS[name]
    transform = make()
    state = transform.init(PARAMS)
    want, after = interpreted(transform.update)(GRADS, state, PARAMS)
    assert isinstance(after, OptimisticState)
    double = {"w": 2 * GRADS["w"]}
    labels = {"w": "mine"}
    static = () if name == "hedge" else ("projection",)
    inject = optax.inject_hyperparams(make.func, static_args=static)
    others = {
        "chain": (optax.chain(optax.scale(0.5), transform), double),
        "masked": (optax.masked(transform, {"w": True}), GRADS),
        "multi_transform": (optax.multi_transform({"mine": transform}, labels), GRADS),
        "inject": (inject(learning_rate=0.1, **make.keywords), GRADS),
    }
    for way, (other, grads) in others.items():
        start = other.init(PARAMS)
        got, end = interpreted(other.update)(grads, start, PARAMS)
        np.testing.assert_allclose(got["w"], want["w"], rtol=1e-5, err_msg=way)
        assert jax.tree.structure(end) == jax.tree.structure(start)
    several = optax.MultiSteps(transform, 2)
    start = several.init(PARAMS)
    still, start = quick_jit(several.update)(GRADS, start, PARAMS)
    assert (still["w"] == 0).all()
    got, _ = quick_jit(several.update)(GRADS, start, PARAMS)
    np.testing.assert_allclose(got["w"], want["w"], rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_dtypes_and_shardings_survive(name):
    transform = MAKERS[name]()
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    place = NamedSharding(mesh, P("data"))
    for dtype in (jnp.float32, jnp.bfloat16):
        params, grads = (
            jax.device_put(tree["w"].astype(dtype), place) for tree in (PARAMS, GRADS)
        )
        state = transform.init(params)
        assert state.iterate.dtype == jnp.float32
        assert state.iterate.sharding.is_equivalent_to(place, 2)
        updates, after = quick_jit(transform.update)(grads, state, params)
        assert updates.dtype == dtype
        assert updates.sharding.is_equivalent_to(place, 2)
        assert after.iterate.sharding.is_equivalent_to(place, 2)
        got = jax.tree.map(jnp.shape, after)
        assert got == jax.tree.map(jnp.shape, state)


def test_a_hidden_expert_stays_hidden():
    logits = jnp.float32([0, -jnp.inf, 0])
    grads = np.float32([[1, np.nan, 0], [0, np.inf, 0]])
    got, _ = played(optimistic_hedge(1.0), logits, grads)
    assert (got[:, 1] == -np.inf).all()
    np.testing.assert_allclose(got[:, 2] - got[:, 0], [2, 1])
    share, _ = played(
        optimistic_omd(1.0, mirror="entropy"), jnp.float32([0.5, 0, 0.5]), grads
    )
    np.testing.assert_allclose(share, jax.nn.softmax(got, -1), atol=1e-6)


def test_extremes():
    got, _ = played(optimistic_hedge(1.0), jnp.zeros(2), np.float32([[1e30, -1e30]]))
    np.testing.assert_array_equal(jax.nn.softmax(got, -1), [[0, 1]])
    empty = optimistic_omd(0.1)
    assert empty.update({}, empty.init({}), {})[0] == {}


@pytest.mark.slow
def test_a_million_rounds():
    transform, start = optimistic_hedge(0.1), jnp.zeros(3)

    def round_(carry, key):
        logits, state = carry
        losses = jax.random.uniform(key, (3,)) + jnp.float32([0, 0.01, 1])
        change, state = transform.update(losses, state, logits)
        return (logits + change, state), None

    keys = jax.random.split(jax.random.key(0), 10**6)
    (logits, _), _ = jax.lax.scan(round_, (start, transform.init(start)), keys)
    weights = jax.nn.softmax(logits)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(weights, [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: optimistic_omd(0.1, mirror="log"),
            "mirror is 'log', expected 'euclid",
        ),
        (
            lambda: optimistic_omd(0.1, mirror="entropy", projection=ball),
            "projection is for mirror='euclidean'",
        ),
        (lambda: optimistic_omd(0.1, offset=0.0), "offset is 0.0, expected above 0"),
        (lambda: optimistic_hedge(-0.1), "learning_rate is -0.1, expected at least 0"),
        (
            lambda: optimistic_hedge(0.1).update(
                GRADS, optimistic_hedge(0.1).init(PARAMS)
            ),
            "optimistic_hedge needs params",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
