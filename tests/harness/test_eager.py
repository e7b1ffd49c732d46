"""Operations that NumPy runs give what XLA gives, to rounding, as arrays of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compiler

from harness import eager

pytestmark = pytest.mark.skipif(
    not eager.is_installed(), reason="this version of JAX is built otherwise"
)


@pytest.fixture
def compilations(monkeypatch):
    """Names of what is compiled, in a list that grows."""
    names, compile_it = [], compiler.compile_or_get_cached

    def compiling(backend, computation, *args, **kwargs):
        names.append(str(computation.operation.attributes["sym_name"]))
        return compile_it(backend, computation, *args, **kwargs)

    monkeypatch.setattr(compiler, "compile_or_get_cached", compiling)
    return names


def operations():
    x, key = jnp.arange(5.0) * 2 + 1, jax.random.key(3)
    first, second = jax.random.split(key)
    y = jax.random.normal(first, (3, 4))
    return [
        [
            x,
            y,
            key,
            jnp.int32(3) // 2,
            jnp.float32(2) ** 3,
            2 * x,
            jnp.asarray(3.0) * 2,
        ],
        [jnp.where(x > 3, x, 0), x[1:3], x.sum(), y.at[0].set(1.0), y @ y.T, -x % 3],
        [jnp.stack([x, x]), jnp.eye(3), jnp.ones(3) + 1, jnp.linspace(0, 1, 5)],
        [jnp.sort(y, -1), jnp.median(x), jnp.argmax(y), jnp.isnan(x), jnp.var(x)],
        [jax.nn.softmax(y), jax.nn.one_hot(jnp.arange(3), 4), jnp.log(x - 4)],
        [jnp.array([1, 2]) + 1.5, jnp.bfloat16(3) * y.astype(jnp.bfloat16)],
        [jnp.array([np.nan, np.inf, -1e20, 2.7]).astype(int), 7 // jnp.arange(2)],
        [jax.random.permutation(second, 7), jax.random.uniform(second, (2,))],
        [jnp.zeros((0, 3)).sum(-1), jnp.max(x, initial=-jnp.inf), jnp.cumsum(y, 1)],
    ]


def kind(a):
    return type(a), a.shape, a.dtype, a.weak_type, a.committed, a.sharding


def test_numpy_and_xla_agree(compilations):
    with eager.interpreted():
        got = jax.tree.leaves(operations())
    few = len(compilations)
    with eager.compiled():
        want = jax.tree.leaves(operations())
    assert few < (len(compilations) - few) / 3
    for a, b in zip(got, want, strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert kind(a) == kind(b)
        np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), rtol=1e-5, atol=1e-6
        )


def test_programs_are_compiled(compilations):
    @jax.jit
    def program(x):
        return jnp.where(x > 2, x, 0)

    with eager.interpreted():
        x = program(np.float32([1, 3]))
        np.testing.assert_array_equal(jax.nn.relu(x), [0, 3])
    assert compilations == ['"jit_program"']


def test_what_is_called_often_is_compiled(compilations):
    x = jax.device_put(np.ones(11, np.float32))
    with eager.interpreted():
        for _ in range(eager.TIMES):
            x = jnp.tanh(x)
        assert not compilations
        jnp.tanh(x)
    assert compilations == ['"jit_tanh"']


def test_what_is_placed_stays_where_it_is():
    last = jax.devices()[-1]
    with eager.interpreted():
        assert (jax.device_put(1.0, last) + 1).devices() == {last}
        with jax.default_device(last):
            assert (jnp.ones(3) + 1).devices() == {last}


def test_results_are_no_views():
    numbers = np.arange(64, dtype=np.float32)
    with eager.interpreted():
        turned = jnp.flip(numbers)
    numbers[:] = 0
    assert turned[1] == 62
