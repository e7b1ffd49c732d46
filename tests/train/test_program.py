import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from logitlab.train import Stream, build_program
from logitlab.train.mesh import make_mesh


def trained(run, seeds=(0, 1), devices=1, steps=20, **settings):
    mesh = make_mesh({"data": devices}, jax.devices()[:devices])
    program = build_program(run, seeds, mesh, **settings)
    data = program.data
    if program.stream is not None:
        batches = program.stream.batches(0)
        rows = [next(batches) for _ in range(steps)]
        data = program.place(jax.tree.map(lambda *a: np.stack(a), *rows))
    counts = jnp.full(len(seeds), steps, jnp.int32)
    state, value = program.advance(program.init(), data, counts)
    return jax.device_get(state), jax.device_get(value)


def by_hand(optimizer, seed, steps=20):
    """The same training in five plain lines of Optax."""
    key = jax.random.key(seed)
    batch = toy.data(jax.random.fold_in(key, 1))["train"]
    params = toy.init(jax.random.split(key)[0])
    state = optimizer.init(params)
    for _ in range(steps):
        grads = jax.grad(lambda p: toy.loss(p, batch, None).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params["w"]


SETTINGS = {
    "map": dict(seeds_by="map"),
    "vmap": dict(seeds_by="vmap"),
    "sharded": dict(devices=4),  # 10 rows on 4 devices: padded and masked
    "sharded vmap": dict(devices=4, seeds_by="vmap"),
    "pmap": dict(devices=4, parallel="pmap"),
    "pmap vmap": dict(devices=4, parallel="pmap", seeds_by="vmap"),
}


@pytest.mark.parametrize("optimizer", [optax.sgd(0.05), optax.adam(0.05, eps=1e-8)])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_gives_the_same_numbers(name, optimizer):
    state, _ = trained(toy.run(optimizer=optimizer), **SETTINGS[name])
    for i, seed in enumerate((0, 1)):
        expected = by_hand(optimizer, seed)
        np.testing.assert_allclose(state.params["w"][i], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.step, [20, 20])


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


@pytest.mark.parametrize("name", ["map", "sharded", "pmap"])
def test_streamed_batches(name):
    full = toy.data(jax.random.fold_in(jax.random.key(0), 1))["train"]
    batch = jax.tree.map(np.asarray, full)

    def batches(step):
        del step
        while True:
            yield batch

    run = toy.run(data={"train": Stream(batches)}, evaluate=lambda p, d: {})
    state, _ = trained(run, seeds=(0,), **SETTINGS[name])
    expected = by_hand(optax.adam(0.05), 0)
    np.testing.assert_allclose(state.params["w"][0], expected, rtol=1e-5, atol=1e-6)


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
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    program = build_program(toy.run(), (0, 1, 2), mesh)
    state = program.init()
    for n in (1, 2, 7):
        state, _ = program.advance(state, program.data, jnp.full(3, n, jnp.int32))
    assert program.advance._cache_size() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(seeds_by="scan"), "seeds_by is 'scan'"),
        (dict(parallel="xmap"), "parallel is 'xmap'"),
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
