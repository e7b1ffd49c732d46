import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import toy

from logitlab.train import WorkdirError
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


def test_another_state_is_not_restored(tmp_path):
    """Nor cast, as Orbax would do without a word."""
    adam, key = optax.adam(0.1), jax.random.key(1)
    state = init_state(toy.init, adam, key)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, state, {"done": False})

    def w(array):
        return state._replace(params={"w": array})

    others = [
        (
            w(jnp.zeros(3, jnp.bfloat16)),
            r"params/w: float32\[3\] there, bfloat16\[3\] h",
        ),
        (w(jnp.zeros((2, 3))), r"params/w: float32\[3\] there, float32\[2,3\] here$"),
        (
            state._replace(params={"v": state.params["w"]}),
            r"params/v: \(absent\) there, float32\[3\] here\n"
            r"  params/w: float32\[3\] there, \(absent\) here$",
        ),
        (
            init_state(toy.init, optax.sgd(0.1), key),
            r"opt_state/0/count: int32\[\] there, \(absent\) here\n  opt_state/0/mu/w",
        ),
        (
            init_state(toy.init, adam, jax.random.key(1, impl="rbg")),
            r"equal:\n  key: uint32\[2\] there, uint32\[4\] here$",
        ),
        (
            init_state(toy.init, adam, key, keep_best=True),
            r"best/w: \(absent\) there, float32\[3\] here$",
        ),
        (w([jnp.zeros(1)] * 20), r"params/w/15: .*\n  and 12 more$"),
    ]
    with Checkpoints(tmp_path / "c") as checkpoints:
        for like, message in others:
            with pytest.raises(
                WorkdirError, match=r"c/3 holds other [\s\S]*" + message
            ):
                checkpoints.restore(3, like=like)
        back = checkpoints.restore(3, like=state)
    np.testing.assert_array_equal(back.params["w"], state.params["w"])
