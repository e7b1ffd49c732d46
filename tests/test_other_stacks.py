"""Losses and heads in the programs of larger frameworks, beside the plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import heads, losses

LAYERS, WIDTH, WORDS, ROWS, LENGTH = 3, 8, 16, 4, 6


def init(key):
    keys = jax.random.split(key, 4)
    return {
        "embedding": jax.random.normal(keys[0], (WORDS, WIDTH)),
        "up": jax.random.normal(keys[1], (LAYERS, WIDTH, 2 * WIDTH)) / 3,
        "down": jax.random.normal(keys[2], (LAYERS, 2 * WIDTH, WIDTH)) / 4,
        "head": jax.random.normal(keys[3], (WIDTH, WORDS)) / 3,
    }


def hidden_of(params, tokens, reduce=lambda x: x):
    """A stack of gated layers, scanned and rematerialized as MaxText's."""

    @jax.checkpoint
    def layer(x, weights):
        up, down = weights
        return x + reduce(jax.nn.silu(x @ up) @ down), None

    x = params["embedding"][tokens]
    return jax.lax.scan(layer, x, (params["up"], params["down"]))[0]


def plain_loss(params, tokens, labels):
    logits = hidden_of(params, tokens) @ params["head"]
    known = labels >= 0
    by_optax = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(known, labels, 0)
    )
    return jnp.where(known, by_optax, 0).sum() / known.sum()


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, WORDS, (ROWS, LENGTH))
    labels = np.where(rng.random((ROWS, LENGTH)) < 0.2, -1, (tokens + 1) % WORDS)
    return tokens.astype(np.int32), labels.astype(np.int32)


# How tensor-parallel layers and a vocabulary-parallel head lie on data x model.
SPECS = {
    "embedding": P(),
    "up": P(None, None, "model"),
    "down": P(None, "model", None),
    "head": P(None, "model"),
}


def sharded_step(mesh):
    """A step of SGD whose loss is a shard_map of layers and fused head together."""

    def local(params, tokens, labels):
        x = hidden_of(params, tokens, lambda x: jax.lax.psum(x, "model"))
        nll = heads.fused_linear_cross_entropy(
            x, params["head"], labels, axis_name="model", vocab_chunk=2
        )
        known = labels >= 0
        total = jnp.where(known, nll, 0).sum(), known.sum()
        total, count = jax.lax.psum(total, "data")
        return total / count

    mean = jax.shard_map(
        local, mesh=mesh, in_specs=(SPECS, P("data"), P("data")), out_specs=P()
    )

    @jax.jit
    def step(params, tokens, labels):
        value, grads = jax.value_and_grad(mean)(params, tokens, labels)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), value

    return step


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_step_as_in_maxtext(batch, kind):
    params = init(jax.random.key(0))

    @jax.jit
    def plain(params):
        value, grads = jax.value_and_grad(plain_loss)(params, *batch)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), value

    mesh = jax.make_mesh((2, 4), ("data", "model"), (kind,) * 2)
    with jax.set_mesh(mesh):
        spread = {
            name: jax.device_put(a, NamedSharding(mesh, SPECS[name]))
            for name, a in params.items()
        }
        rows = jax.device_put(batch, NamedSharding(mesh, P("data")))
        step = sharded_step(mesh)
        compiled = step.lower(spread, *rows).compile()
        assert "all-gather" not in compiled.as_text()
        history = []
        for _ in range(5):
            spread, value = compiled(spread, *rows)
            history.append(float(value))  # waits for the step
    for value in history:
        params, want = plain(params)
        np.testing.assert_allclose(value, want, rtol=1e-5)
    for name, want in params.items():
        np.testing.assert_allclose(spread[name], want, rtol=1e-4, atol=1e-5)
    assert history[-1] < history[0] / 2


OPTIMIZERS = {
    "all three": lambda: optax.MultiSteps(
        optax.contrib.schedule_free(
            optax.inject_hyperparams(optax.sgd)(0.1), 0.1, b1=0.9
        ),
        every_k_schedule=2,
    ),
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(0.02), every_k_schedule=2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(
        optax.linear_schedule(0.02, 0.0, 20)
    ),
    "schedule_free": lambda: optax.contrib.schedule_free_adamw(0.02),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optax_loop(batch, name):
    """Twenty steps with the fused head, and with optax's loss of the logits."""
    tokens, labels = batch

    def fused_loss(params, tokens, labels):
        nll = heads.linear_loss(
            losses.cross_entropy, hidden_of(params, tokens), params["head"], labels
        )
        return jnp.where(labels >= 0, nll, 0).sum() / (labels >= 0).sum()

    optimizer = OPTIMIZERS[name]()

    def end(loss):
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, tokens, labels)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        start = init(jax.random.key(0))
        first = start, optimizer.init(start)
        (params, _), history = jax.jit(
            lambda first: jax.lax.scan(step, first, length=20)
        )(first)
        return params, history

    ours, history = end(fused_loss)
    theirs, want = end(plain_loss)
    np.testing.assert_allclose(history, want, rtol=1e-3)
    assert history[-1] < 0.7 * history[0]
    for name, a in theirs.items():
        np.testing.assert_allclose(ours[name], a, rtol=1e-2, atol=1e-3)
