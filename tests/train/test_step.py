import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy

from logitlab.train import init_state, make_step


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
