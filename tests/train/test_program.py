import dataclasses
import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import toy
from jax.sharding import PartitionSpec as P

from logitlab.train import Stream, build_program
from logitlab.train.mesh import make_mesh

COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def trained(run, seeds=(0, 1), devices=1, model=1, steps=20, **settings):
    mesh = make_mesh(
        {"data": devices, "model": model}, jax.devices()[: devices * model]
    )
    program = build_program(run, seeds, mesh, **settings)
    data, n = program.data, steps
    if program.stream is not None:
        batches = program.stream.batches(0)
        rows = [next(batches) for _ in range(steps)]
        data = program.place(jax.tree.map(lambda *a: np.stack(a), *rows))
    state, value = program.advance(program.init(), data, [n] * len(seeds))
    return jax.device_get(state), jax.device_get(value)


def start(data, seed):
    """Parameters and rows of a seed, from one program."""

    @jax.jit
    def draw(key):
        rows = data(jax.random.fold_in(key, 1))["train"]
        return wide_init(jax.random.split(key)[0]), rows

    return draw(jax.random.key(seed))


@functools.cache
def by_hand(optimizer, seed, x64=False, steps=20):
    """The same training in five plain lines of Optax."""
    assert jax.config.jax_enable_x64 == x64  # what was cached is of that width
    params, batch = start(wide_data, seed)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: wide_loss(p, batch, None).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def wide_data(key):
    return {"train": {"x": jax.random.normal(key, (10, 3))}}


def wide_init(key):
    keys = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(keys[0], (3, 8))},
        "head": {"kernel": jax.random.normal(keys[1], (8, 2)), "bias": jnp.zeros(2)},
    }


def wide_loss(params, batch, key):
    hidden = jnp.tanh(batch["x"] @ params["hidden"]["kernel"])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"][None]
    return jax.nn.logsumexp(logits, -1) - logits[:, 0]


def wide(**changes):
    settings = dict(init=wide_init, loss=wide_loss, data=wide_data, evaluate=None)
    return toy.run(**settings | changes)


RULES = (("hidden/kernel", (None, "model")), ("head/kernel", ("model", "data")))
# Those first that take the most ways through the program.
SETTINGS = {
    "map": dict(seeds_by="map"),
    "accumulated, sharded": dict(devices=2, model=2, sharding=RULES, accumulate=2),
    "accumulated, pmap": dict(devices=4, parallel="pmap", accumulate=2),
    "sharded vmap": dict(devices=4, seeds_by="vmap"),
    "vmap": dict(seeds_by="vmap"),
    "sharded": dict(devices=4),  # 10 rows on 4 devices: padded and masked
    "parameters": dict(devices=2, model=4, sharding=RULES),
    "accumulated": dict(accumulate=3),  # 10 rows in 3 parts
    "pmap": dict(devices=4, parallel="pmap"),
    "pmap vmap": dict(devices=4, parallel="pmap", seeds_by="vmap"),
}
# Adam does not see a wrong scale, SGD no error of 1e-8.
BOTH = optax.partition(
    {"sgd": optax.sgd(0.05), "adam": optax.adam(0.05, eps=1e-8)},
    {"hidden": "sgd", "head": "adam"},
)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_gives_the_same_numbers(name, x64):
    state, _ = trained(wide(optimizer=BOTH), **SETTINGS[name])
    for i, seed in enumerate((0, 1)):
        got = jax.tree.map(lambda a, i=i: a[i], state.params)
        expected = jax.device_get(by_hand(BOTH, seed, x64=True))
        chex.assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(state.step, [20, 20])


def ragged_data(key):
    """Sequences of 0 to 6 tokens, among them the longest and an empty one."""
    keys = jax.random.split(key)
    lengths = jax.random.randint(keys[1], (10,), 0, 6).at[:2].set(jnp.array([6, 0]))
    tokens = jnp.arange(6)[None] < lengths[:, None]
    x = jax.random.normal(keys[0], (10, 6, 3))
    return {"train": {"x": jnp.where(tokens[..., None], x, 0), "tokens": tokens}}


def token_losses(params, batch):
    return wide_loss(params, {"x": batch["x"].reshape(-1, 3)}, None).reshape(-1, 6)


def token_mean(params, batch, key):
    """What DAPO averages over: all tokens of the batch alike."""
    losses, tokens = token_losses(params, batch), batch["tokens"]
    return jnp.where(tokens, losses, 0).sum(-1), tokens.sum(-1)


def token_mean_by_hand(optimizer, seed, steps=20):
    """Parameters and the optimizer's state, as a user of optax gets them."""
    params, batch = start(ragged_data, seed)
    optimizer = optax.with_extra_args_support(optimizer)
    state = optimizer.init(params)

    def mean(params):
        return token_losses(params, batch).mean(where=batch["tokens"])

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(mean)(params)
        extra = dict(value=value, grad=grad, value_fn=mean)
        updates, state = optimizer.update(grad, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


MICRO = {
    "4 devices, in 2 parts": dict(devices=4, accumulate=2),
    "pmap, in 2 parts": dict(devices=4, parallel="pmap", accumulate=2),
    "one device": dict(),
    "in 2 parts": dict(accumulate=2),
    "in 4 parts": dict(accumulate=4),
    "4 devices": dict(devices=4),
    "pmap": dict(devices=4, parallel="pmap"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MICRO)
def test_a_mean_over_tokens_is_that_of_any_split(name, x64):
    run = wide(optimizer=BOTH, data=ragged_data, loss=token_mean)
    state, _ = trained(run, (0,), **MICRO[name])
    expected, _ = jax.device_get(token_mean_by_hand(BOTH, 0))
    got = jax.tree.map(lambda a: a[0], state.params)
    chex.assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MICRO)
def test_losses_of_another_shape_are_refused_when_traced(name):
    """A mean would be scaled by the number of parts, token losses by their own."""
    mean = wide(loss=lambda *given: wide_loss(*given).mean())
    with pytest.raises(ValueError, match=r"loss returned shape \(\) for a batch of "):
        trained(mean, (0,), **MICRO[name])
    tokens = wide(data=ragged_data, loss=lambda *given: token_losses(*given[:2]))
    with pytest.raises(ValueError, match=r"shape \(\d+, 6\) .* pair \(sums, counts\)"):
        trained(tokens, (0,), **MICRO[name])


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["pmap, in 2 parts", "4 devices", "in 4 parts"])
def test_an_objective_of_the_whole_batch_is_its_value_once_for_each_row(name):
    """Of the parts each is a batch, and the step that of the mean of their values."""

    def loss(params, batch, key):
        value = wide_loss(params, batch, key).mean()
        return jnp.full(len(batch["x"]), value)

    even = wide(data=lambda key: {"train": {"x": jax.random.normal(key, (16, 3))}})
    whole = dataclasses.replace(even, loss=loss)
    state, value = trained(whole, (0,), **MICRO[name])
    expected, mean = trained(even, (0,))
    chex.assert_trees_all_close(state.params, expected.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, mean, rtol=1e-5)


def descent():
    """Takes a step as long as what the mean over the whole batch falls by it."""

    def update(updates, state, params, *, value, grad, value_fn, **extra):
        del extra
        again, grad_again = jax.value_and_grad(value_fn)(params)
        step = jax.tree.map(lambda a, b: -0.05 * (a + b), grad, grad_again)
        fall = (value + again) / 2 - value_fn(optax.apply_updates(params, step))
        return jax.tree.map(lambda g: -5 * fall * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


PLATEAU = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.05)


@functools.cache
def searched_by_hand(steps=10):
    assert jax.config.jax_enable_x64
    return token_mean_by_hand(optax.chain(descent(), PLATEAU), 0, steps)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MICRO)
def test_optimizers_see_the_mean_over_all(name, x64):
    run = wide(
        optimizer=optax.chain(descent(), PLATEAU), data=ragged_data, loss=token_mean
    )
    state, _ = trained(run, (0,), steps=10, **MICRO[name])
    params, (_, plateau) = jax.device_get(searched_by_hand())
    got = jax.tree.map(lambda a: a[0], (state.params, state.opt_state[1]))
    chex.assert_trees_all_close(got, (params, plateau), rtol=1e-12, atol=1e-14)
    assert 0 < plateau.scale < 1


def test_and_in_float32():
    state, _ = trained(wide(optimizer=BOTH), (0,), **SETTINGS["accumulated, sharded"])
    got = jax.tree.map(lambda a: a[0], state.params)
    expected = jax.device_get(by_hand(BOTH, 0))
    chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-6)


def test_parameters_and_what_the_optimiser_knows_of_them_are_spread():
    mesh = make_mesh({"data": 2, "model": 4})
    run = wide(optimizer=optax.adam(0.1), best="loss")
    program = build_program(run, (0, 1), mesh, sharding=RULES)
    state, _ = program.advance(program.init(), program.data, [1, 1])
    specs = {"hidden": P(None, None, "model"), "head": P(None, "model", "data")}
    for tree in (
        state.params,
        state.opt_state[0].mu,
        state.opt_state[0].nu,
        state.best,
    ):
        for name, spec in specs.items():
            assert tree[name]["kernel"].sharding.spec == spec
        assert tree["head"]["bias"].sharding.is_fully_replicated
    # Of factored statistics the rules fit none, and those stay whole.
    program = build_program(
        wide(optimizer=optax.adafactor(0.1, min_dim_size_to_factor=2)),
        (0,),
        mesh,
        sharding=RULES,
    )
    program.advance(program.init(), program.data, [1])


def test_bytes_reduced_are_those_of_the_gradients():
    run = wide(batch_size=8)  # drawn from rows that every device has
    program = build_program(run, (0,), make_mesh({"data": 8}))
    program.advance(program.init(), program.data, [1])
    text = program.advance.compiled.executable.as_text()
    moved = re.findall(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", text)
    assert {name for _, name in moved} == {"all-reduce"}
    shapes = re.findall(r"f32\[([\d,]*)\]", " ".join(shape for shape, _ in moved))
    numbers = sum(math.prod(int(n) for n in s.split(",") if n) for s in shapes)
    # And the loss, and the largest of all, by which its mean does not overflow.
    assert numbers == 3 * 8 + 8 * 2 + 2 + 2


def test_a_precision_is_that_of_the_computation_alone():
    seen = {}

    def loss(params, batch, key):
        seen.update(kernel=params["head"]["kernel"].dtype, x=batch["x"].dtype)
        seen.update(y=batch["y"].dtype)
        return wide_loss(params, batch, key)

    def data(key):
        train = wide_data(key)["train"]
        return {"train": train | {"y": jnp.zeros(10)}}

    run = wide(loss=loss, data=data, optimizer=optax.adam(0.01))
    low, value = trained(run, precision="bfloat16")
    assert seen == dict(kernel=jnp.bfloat16, x=jnp.bfloat16, y=jnp.float32)
    assert value.dtype == np.float32
    for leaf in jax.tree.leaves((low.params, low.opt_state[0].mu)):
        assert leaf.dtype == np.float32
    high, _ = trained(run)
    moved = max(
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (low.params, high.params)), strict=True)
    )
    assert 0 < moved < 0.02  # of 20 steps of 0.01
    spread, _ = trained(run, precision="bfloat16", devices=4)
    chex.assert_trees_all_close(spread.params, low.params, atol=2e-2)
    with pytest.raises(ValueError, match="precision is 'int8', expected a float dtype"):
        trained(run, precision="int8")


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["sharded", "pmap", "vmap"])
def test_minibatches_give_the_same_numbers(name):
    run = toy.run(batch_size=4)
    expected, _ = trained(run, seeds_by="map")
    state, _ = trained(run, **SETTINGS[name])
    np.testing.assert_allclose(
        state.params["w"], expected.params["w"], rtol=1e-5, atol=1e-6
    )


def test_an_epoch_sees_every_row_once():
    """The loss adds up what it saw: gradients of a linear loss are the rows."""
    rows = jnp.eye(6, dtype=jnp.float32)
    run = toy.run(
        init=lambda key: {"w": jnp.zeros(6)},
        loss=lambda params, batch, key: batch["x"] @ params["w"],
        data={"train": {"x": rows}},
        optimizer=optax.sgd(1.0),
        batch_size=2,
    )
    for steps, seen in [(1, 0.5), (3, 0.5), (6, 1.0)]:
        state, _ = trained(run, steps=steps)
        got = np.sort(-state.params["w"], -1)
        np.testing.assert_allclose(got[:, -2:], seen)
        assert (got > 0).sum() == 2 * min(2 * steps, 6)


def test_minibatches_do_not_depend_on_where_a_call_ends():
    run = toy.run(batch_size=3)
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    program = build_program(run, (5,), mesh)
    whole, _ = program.advance(program.init(), program.data, jnp.array([11]))
    state = program.init()
    for n in (1, 4, 2, 4):
        state, _ = program.advance(state, program.data, jnp.array([n]))
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(whole._replace(key=0)),
        jax.device_get(state._replace(key=0)),
    )


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["sharded", "map", "pmap"])
def test_streamed_batches(name):
    full = wide_data(jax.random.fold_in(jax.random.key(0), 1))["train"]
    batch = jax.tree.map(np.asarray, full)

    def batches(step):
        del step
        while True:
            yield batch

    run = wide(data={"train": Stream(batches)}, evaluate=lambda p, d: {})
    state, _ = trained(run, seeds=(0,), **SETTINGS[name])
    got = jax.tree.map(lambda a: a[0], state.params)
    chex.assert_trees_all_close(
        got, jax.device_get(by_hand(optax.adam(0.05), 0)), rtol=1e-5, atol=1e-6
    )


def test_stops_at_the_first_loss_that_is_not_finite():
    def loss(params, batch, key):
        # The weights double each step, and overflow at the 128th.
        return batch["x"][:, 0] * 0 + params["w"] ** 2 / 2

    run = toy.run(
        init=lambda key: {"w": jnp.float32(1e10)}, loss=loss, optimizer=optax.sgd(3.0)
    )
    state, value = trained(run, steps=200)
    assert np.isinf(value).all()
    assert (state.step < 100).all()


def test_a_seed_can_stand_still():
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    program = build_program(toy.run(), (0, 1), mesh)
    start = jax.device_get(program.init())
    state, _ = program.advance(program.init(), program.data, jnp.array([0, 3]))
    np.testing.assert_array_equal(state.step, [0, 3])
    np.testing.assert_array_equal(state.params["w"][0], start.params["w"][0])


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_gradients_are_reduced_once(parallel):
    """Doubling the devices must not double the step: the loss is a mean over all."""
    one, _ = trained(toy.run(optimizer=optax.sgd(0.1)), steps=1)
    many, _ = trained(
        toy.run(optimizer=optax.sgd(0.1)), steps=1, devices=8, parallel=parallel
    )
    np.testing.assert_allclose(one.params["w"], many.params["w"], rtol=1e-5)


def test_one_compilation_for_all_distances():
    traces = []

    def loss(params, batch, key):
        traces.append(1)
        return toy.loss(params, batch, key)

    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    program = build_program(toy.run(loss=loss), (0, 1, 2), mesh)
    state = program.init()
    for n in (1, 2, 7):
        state, _ = program.advance(state, program.data, jnp.full(3, n, jnp.int32))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(seeds_by="scan"), "seeds_by is 'scan'"),
        (dict(parallel="xmap"), "parallel is 'xmap'"),
        (dict(accumulate=0), "accumulate is 0, expected at least 1"),
        (dict(parallel="pmap", model=2), "pmap knows the axis data alone"),
        (dict(parallel="pmap", sharding=(("w", ()),)), "has parameters everywhere"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        trained(toy.run(), **settings)


def test_bad_batch_sizes():
    with pytest.raises(ValueError, match="batch_size is 11, expected 1 to 10"):
        trained(toy.run(batch_size=11))
    stream = {"train": Stream(lambda step: iter(()))}
    with pytest.raises(ValueError, match="a stream brings its own"):
        trained(toy.run(data=stream, batch_size=2))


def test_evaluate_must_return_scalars():
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    run = toy.run(evaluate=lambda params, parts: {"w": params["w"]})
    program = build_program(run, (0,), mesh)
    with pytest.raises(ValueError, match=r"'w' with shape \(3,\)"):
        program.evaluate(program.init().params)


def test_runs_with_the_same_at_share_a_program():
    traces = []

    def loss(params, batch, key):
        traces.append(1)
        return toy.loss(params, batch, key)

    def at(values):
        return toy.run(loss=loss, optimizer=optax.sgd(values["rate"]))

    def careful(values):
        rate = values["rate"]
        if rate <= 0:  # looks at the number
            raise ValueError
        return at(values)

    mesh, shared, rates = make_mesh({"data": 1}), {}, (0.01, 0.04)
    expected = {rate: trained(at({"rate": rate}), steps=5)[0] for rate in rates}
    for same, compiled in [(at, 1), (careful, 2)]:
        traces.clear()
        for rate in rates:
            values = {"rate": rate}
            run = dataclasses.replace(same(values), values=values, at=same)
            program = build_program(run, (0, 1), mesh, shared=shared)
            state, _ = program.advance(program.init(), program.data, [5, 5])
            want = expected[rate].params["w"]
            np.testing.assert_allclose(state.params["w"], want, rtol=1e-6)
            assert state.params["w"].dtype == np.float32
        assert len(traces) == compiled


def test_numpy_scalars_decide_no_dtype_in_a_sweep(x64):
    seen = []

    def at(values):
        def loss(params, batch, key):
            seen.append(values["scale"] * toy.loss(params, batch, key))
            return seen[-1]

        return toy.run(loss=loss)

    values = {"scale": np.float64(2)}  # as np.linspace makes them
    run = dataclasses.replace(at(values), values=values, at=at)
    program = build_program(run, (0,), make_mesh({"data": 1}), shared={})
    program.advance(program.init(), program.data, [1])
    assert {losses.dtype.name for losses in seen} == {"float32"}


def test_runs_in_a_row_draw_the_same_data_once():
    draws = []

    def data(key):
        draws.append(1)
        return toy.data(key)

    mesh, shared = make_mesh({"data": 1}), {}
    for run in (toy.run(data=data), toy.run(data=data, optimizer=optax.sgd(0.1))):
        program = build_program(run, (0, 1), mesh, shared=shared)
        want = build_program(toy.run(data=toy.data), (0, 1), mesh).data
        chex.assert_trees_all_equal(program.data, want)
    assert len(draws) == 1
    build_program(toy.run(data=data), (0, 1), mesh)  # on its own
    assert len(draws) == 2
