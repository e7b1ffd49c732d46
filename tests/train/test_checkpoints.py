import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from logitlab.train.checkpoints import Checkpoints
from logitlab.train.step import init_state


def test_restores_types_keys_and_structure(tmp_path):
    state = init_state(toy.init, optax.adam(0.1), jax.random.key(1))
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(3, state, {"active": [True], "done": False})
    with Checkpoints(tmp_path / "c") as checkpoints:
        step, meta = checkpoints.latest()
        assert (step, meta) == (3, {"active": [True], "done": False})
        back = checkpoints.restore(step, like=state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert back.key.dtype == state.key.dtype
    np.testing.assert_array_equal(
        jax.random.uniform(back.key), jax.random.uniform(state.key)
    )
    np.testing.assert_array_equal(back.params["w"], state.params["w"])


def test_keeps_the_newest_and_saves_a_step_once(tmp_path):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step in (1, 2, 2, 5):
            checkpoints.save(step, {"w": jnp.full(2, step)}, {"done": False})
    kept = sorted(int(p.name) for p in (tmp_path / "c").iterdir() if p.name.isdigit())
    assert kept == [2, 5]


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="checkpoint.keep is 0"):
        Checkpoints(tmp_path, keep=0)
