import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy

from logitlab import optim
from logitlab.train import TrainState, init_state, make_step
from logitlab.train.step import sample_feed


def test_one_step_is_the_textbook_one():
    optimizer = optax.sgd(0.1)
    state = init_state(toy.init, optimizer, jax.random.key(0))
    batch = toy.data(jax.random.key(1))["train"]
    new, value = make_step(toy.loss, optimizer)(state, batch)
    residual = batch["x"] @ state.params["w"] - batch["y"]
    np.testing.assert_allclose(value, (residual**2).mean(), rtol=1e-6)
    expected = state.params["w"] - 0.1 * 2 * (residual @ batch["x"]) / 10
    np.testing.assert_allclose(new.params["w"], expected, rtol=1e-5)
    assert new.step == 1


def test_rows_behind_the_mask_do_not_exist():
    optimizer = optax.sgd(0.1)
    state = init_state(toy.init, optimizer, jax.random.key(0))
    batch = toy.data(jax.random.key(1))["train"]
    step = jax.jit(make_step(toy.loss, optimizer))
    kept = jax.tree.map(lambda a: a[:6], batch)
    poisoned = jax.tree.map(lambda a: a.at[6:].set(jnp.nan), batch)
    mask = jnp.arange(10) < 6
    masked, value = step(state, poisoned | {"mask": mask})
    expected, expected_value = step(state, kept)
    np.testing.assert_allclose(masked.params["w"], expected.params["w"], rtol=1e-6)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)


def test_each_step_draws_its_own_randomness():
    def noisy(params, batch, key):
        return params["w"][0] * 0 + jax.random.uniform(key, batch["y"].shape)

    optimizer = optax.sgd(0.1)
    step = make_step(noisy, optimizer)
    state = init_state(toy.init, optimizer, jax.random.key(0))
    batch = toy.data(jax.random.key(1))["train"]
    state1, first = step(state, batch)
    _, second = step(state1, batch)
    _, again = step(state, batch)
    assert first != second
    assert first == again


def test_an_optimizer_may_start_at_random_and_show_it_to_the_loss():
    def optimizer(key):
        return optim.xgd(0.1, reference=optim.random_point(key), refresh_every=2)

    def loss(params, batch, key, reference):
        del key
        pull = (params["w"] - reference["w"])[None]
        return ((batch["x"] * pull) ** 2).sum(-1)

    keys = jax.random.split(jax.random.key(0), 2)
    states = [init_state(toy.init, optimizer, key) for key in keys]
    first, second = (state.opt_state.reference["w"] for state in states)
    assert not np.allclose(first, second)
    step = jax.jit(
        make_step(loss, optimizer, from_optimizer=lambda state: state.reference)
    )
    batch, state = toy.data(keys[0])["train"], states[0]
    pull = state.params["w"] - first
    want = state.params["w"] - 0.1 * 2 * (batch["x"] ** 2).mean(0) * pull
    state, _ = step(state, batch)
    np.testing.assert_allclose(state.params["w"], want, rtol=1e-5)
    np.testing.assert_array_equal(state.opt_state.reference["w"], first)
    state, _ = step(state, batch)
    np.testing.assert_array_equal(state.opt_state.reference["w"], state.params["w"])


def test_seeds_side_by_side_draw_an_order_only_when_due():
    feed = sample_feed(2)
    data = {"x": jnp.arange(10)}

    def orders(key):
        state = TrainState(jnp.int32(4), (), (), key, jnp.int32(0))
        batch, carry = feed.batch(data, state, 0, feed.start(data, state))
        late = state._replace(step=jnp.int32(5))
        return batch["x"], feed.batch(data, late, 1, carry)[1]

    keys = jax.random.split(jax.random.key(0), 3)
    text = str(jax.make_jaxpr(jax.vmap(lambda k: orders(k)[1]))(keys))
    assert "cond[" in text  # not a select between two computed orders
    got = jax.vmap(orders)(keys)
    each = [orders(key) for key in keys]
    for a, b in zip(got, zip(*each, strict=True), strict=True):
        np.testing.assert_array_equal(a, jnp.stack(b))
    assert sorted(got[1][0].tolist()) == list(range(10))
