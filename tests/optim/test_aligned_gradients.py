import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import cases

from logitlab import optim


def trees(values):
    return jax.tree.map(np.array, values, is_leaf=lambda v: isinstance(v, list))


@pytest.mark.parametrize("case", cases("dhkd_gradient_alignment"))
def test_golden(case, x64):
    main, aux = (trees(case["inputs"][k]) for k in ("grad_main", "grad_aux"))
    want = jax.tree.leaves(trees(case["outputs"]["merged"]))
    got = jax.tree.leaves(optim.align_gradients(main, aux))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_properties(x64):
    g, h = np.random.default_rng(0).normal(size=(2, 7))
    h = h if g @ h < 0 else -h
    rest = optim.align_gradients(g, h) - g
    np.testing.assert_allclose(g @ rest, 0, atol=1e-12)
    np.testing.assert_allclose(optim.align_gradients(g, -h), g - h, rtol=1e-12)
    np.testing.assert_allclose(optim.align_gradients(0 * g, h), h, rtol=1e-12)


def test_sizes_and_dtypes():
    for scale in (1e-30, 1e30):
        g = {"a": np.float32([scale, 0]), "b": jnp.zeros(2, jnp.bfloat16)}
        h = {"a": np.float32([-2 * scale, scale]), "b": jnp.zeros(2, jnp.bfloat16)}
        got = optim.align_gradients(g, h)
        np.testing.assert_allclose(got["a"], [scale, scale], rtol=1e-5)
        assert got["b"].dtype == jnp.bfloat16
    far = optim.align_gradients(np.float32([1e-20]), np.float32([-1e20]))
    assert np.isfinite(far).all()


def test_in_a_chain():
    chain = optax.chain(optim.gradient_alignment(), optax.sgd(0.5))
    params = {"w": jnp.ones(2)}
    state = chain.init(params)
    main, aux = {"w": jnp.float32([1, 0])}, {"w": jnp.float32([-2, 3])}
    updates, _ = jax.jit(chain.update)(main, state, params, aux_grads=aux)
    np.testing.assert_allclose(updates["w"], [-0.5, -1.5])
    with pytest.raises(TypeError, match="aux_grads"):
        chain.update(main, state, params)
