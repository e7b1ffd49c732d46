"""The losses inside loops that other people write: an import, and nothing else of ours.

Every loop minimises the same mean over the same rows with the same SGD, so those that
compute the same model have to end at the same parameters.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import links, losses, optim

STEPS, CLASSES, FEATURES = 20, 3, 4


@pytest.fixture(scope="module")
def batch():
    """Three clusters that a line separates: 24 rows, so that 8 devices get 3 each."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % CLASSES
    centres = 4 * np.eye(CLASSES, FEATURES)
    x = centres[y] + rng.normal(size=(24, FEATURES)) / 4
    return x.astype(np.float32), y.astype(np.int32)


def linear(params, x):
    return x @ params["kernel"] + params["bias"][None]


def mean_loss(params, x, y):
    return losses.cross_entropy(linear(params, x), y).mean()


@pytest.fixture(scope="module")
def start():
    kernel = jax.random.normal(jax.random.key(0), (FEATURES, CLASSES)) / 10
    return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}


@pytest.fixture(scope="module")
def alone(batch, start):
    """Parameters after 20 steps of the shortest loop there is, on one device."""

    @jax.jit
    def step(params):
        grads = jax.grad(mean_loss)(params, *batch)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    params = start
    for _ in range(STEPS):
        params = step(params)
    return params


def assert_same(params, alone):
    for name, expected in alone.items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(params[name], expected, rtol=0, atol=1e-5 * largest)


def assert_learns(history, logits, labels):
    assert np.isfinite(history).all()
    assert history[-1] < history[0] / 2
    np.testing.assert_array_equal(np.argmax(logits, -1), labels)


@pytest.mark.parametrize("grokking", [False, True])
def test_optax_and_linen(batch, grokking):
    x, y = batch
    model = nn.Dense(CLASSES)
    params = model.init(jax.random.key(0), x)
    link, optimizer = (lambda logits: logits), optax.adam(0.1)
    if grokking:  # the paper's two remedies, in the two places where they go
        link, optimizer = links.stablemax, optax.chain(optim.ortho_grad(), optimizer)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        def mean_loss(params):
            return losses.cross_entropy(link(model.apply(params, x)), y).mean()

        value, grads = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    history = []
    for _ in range(STEPS):
        params, state, value = step(params, state)
        history.append(value)
    assert_learns(history, model.apply(params, x), y)


def test_nnx(batch, start, alone):
    x, y = batch
    model = nnx.Linear(FEATURES, CLASSES, rngs=nnx.Rngs(0))
    nnx.update(model, start)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def mean_loss(model):
            return losses.cross_entropy(model(x), y).mean()

        value, grads = nnx.value_and_grad(mean_loss)(model)
        optimizer.update(model, grads)
        return value

    history = [step(model, optimizer) for _ in range(STEPS)]
    assert_learns(history, model(x), y)
    assert_same(nnx.to_pure_dict(nnx.state(model)), alone)


def test_equinox(batch, start, alone):
    x, y = batch
    model = eqx.nn.Linear(FEATURES, CLASSES, key=jax.random.key(0))
    weights = start["kernel"].T, start["bias"]
    model = eqx.tree_at(lambda model: (model.weight, model.bias), model, weights)
    optimizer = optax.sgd(0.1)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        @eqx.filter_value_and_grad
        def mean_loss(model):
            return losses.cross_entropy(jax.vmap(model)(x), y).mean()

        value, grads = mean_loss(model)
        updates, state = optimizer.update(grads, state, model)
        return eqx.apply_updates(model, updates), state, value

    history = []
    for _ in range(STEPS):
        model, state, value = step(model, state)
        history.append(value)
    assert_learns(history, jax.vmap(model)(x), y)
    assert_same({"kernel": model.weight.T, "bias": model.bias}, alone)


def test_pmap(batch, start, alone):
    """The old way: every device has parameters and rows of its own."""
    ways = jax.local_device_count()
    assert ways == 8
    x, y = (a.reshape(ways, -1, *a.shape[1:]) for a in batch)

    def step(params, x, y):
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        value, grads = jax.lax.pmean((value, grads), "batch")
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    mapped = jax.pmap(step, axis_name="batch")
    params = jax.tree.map(lambda a: jnp.stack([a] * ways), start)
    history = []
    for _ in range(STEPS):
        params, value = mapped(params, x, y)
        history.append(np.asarray(value)[0])  # waits: see STYLE on simulated devices
    first, *others = jax.device_get(jax.tree.map(list, params)["kernel"])
    for other in others:
        np.testing.assert_array_equal(other, first)
    params = jax.tree.map(lambda a: a[0], jax.device_get(params))
    assert_learns(history, linear(params, batch[0]), batch[1])
    assert_same(params, alone)


def sgd_loop(step, params, x, y):
    @jax.jit
    def train(params, x, y):
        return jax.lax.scan(lambda p, _: step(p, x, y), params, length=STEPS)

    return train(params, x, y)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_shard_map(batch, start, alone, kind):
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    rows, everywhere = (NamedSharding(mesh, spec) for spec in (P("data"), P()))
    x, y = jax.device_put(batch, rows)

    def global_loss(params, x, y):
        return jax.lax.pmean(mean_loss(params, x, y), "data")

    def step(params, x, y):  # grad(pmean(loss)), not pmean(grad(loss))
        value, grads = jax.value_and_grad(global_loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=(P(), P())
    )
    params, history = sgd_loop(mapped, jax.device_put(start, everywhere), x, y)
    assert_learns(history, linear(jax.device_get(params), batch[0]), batch[1])
    assert_same(params, alone)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded_batch(batch, start, alone, kind):
    """The new way: arrays know where they are, and the loop is that of one device."""
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    rows, everywhere = (NamedSharding(mesh, spec) for spec in (P("data"), P()))
    x, y = jax.device_put(batch, rows)

    def step(params, x, y):
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    params, history = sgd_loop(step, jax.device_put(start, everywhere), x, y)
    assert params["kernel"].sharding.is_fully_replicated
    assert_learns(history, linear(jax.device_get(params), batch[0]), batch[1])
    assert_same(params, alone)
