import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import heads
from logitlab.heads import frames

calls = functions(frames)


def cosines(kernel):
    unit = np.asarray(kernel, np.float64)
    unit = unit / np.linalg.norm(unit, axis=0)
    return (unit.T @ unit)[~np.eye(unit.shape[1], dtype=bool)]


@pytest.mark.parametrize("shape", [(64, 10), (10, 10), (5, 2)])
def test_simplex(shape):
    kernel = heads.simplex_etf(jax.random.key(0), *shape)
    assert kernel.shape == shape
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(cosines(kernel), -1 / (shape[1] - 1), atol=1e-6)


def test_angles_of_the_simplex(x64):
    kernel = heads.simplex_etf(jax.random.key(1), 64, 10)
    angles = np.degrees(np.arccos(cosines(kernel)))
    np.testing.assert_allclose(angles, 96.37937, atol=1e-5)
    np.testing.assert_allclose(np.arccos(cosines(kernel)), np.arccos(-1 / 9), rtol=1e-6)


def test_sparse():
    few = dict(steps=1500, learning_rate=1e-3)
    kernel = heads.sparse_etf(jax.random.key(0), 32, 5, **few)
    start = heads.sparse_etf(jax.random.key(0), 32, 5, steps=0)
    assert (kernel == 0).sum() == (start == 0).sum() == 96
    np.testing.assert_array_equal(kernel == 0, start == 0)
    ideal = np.degrees(np.arccos(-1 / 4))
    before, after = (np.degrees(np.arccos(cosines(k))) for k in (start, kernel))
    assert np.abs(before - ideal).max() > 2
    np.testing.assert_allclose(after, ideal, atol=0.5)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 0.1, atol=0.01)


def test_realign(x64):
    kernel = np.array([[3.0, 0, 0], [4, 2, 0]])
    want = [[1.02, 0, 0], [1.36, 1.7, 0]]
    np.testing.assert_allclose(calls.realign_global(kernel), want, rtol=1e-12)
    got = calls.realign_global(kernel, gain=2.0, power=0.0)
    np.testing.assert_allclose(got, 2 * kernel, rtol=1e-12)
    got = calls.realign_global(kernel, gain=2.0, power=0.5)
    np.testing.assert_allclose(got[:, 0], 2 * kernel[:, 0] / 5**0.5, rtol=1e-12)
    other = np.array([[1.0, 2, 3], [1, -2, 3]])
    got = calls.realign_local(other, kernel)
    np.testing.assert_allclose(got, other * [5, 2, 0], rtol=1e-12)


def test_extremes():
    kernel = np.float32([[1e30, 1e-30, 0], [1e30, 0, 0]])
    got = calls.realign_global(kernel)
    want = [[1.7 / 2**0.5, 1.7, 0], [1.7 / 2**0.5, 0, 0]]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    ones = jnp.ones((2, 3), jnp.bfloat16)
    got = calls.realign_local(ones, kernel)
    np.testing.assert_allclose(got, [[2**0.5 * 1e30, 1e-30, 0]] * 2, rtol=1e-6)
    assert got.dtype == jnp.float32


def test_errors():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="dim is 4, expected at least num_classes, 5"):
        heads.simplex_etf(key, 4, 5)
    with pytest.raises(ValueError, match="num_classes is 1, expected at least 2"):
        heads.simplex_etf(key, 4, 1)
    with pytest.raises(ValueError, match="sparsity is 1.0, expected a number in"):
        heads.sparse_etf(key, 4, 2, sparsity=1.0)
    with pytest.raises(ValueError, match="target_norm is 0, expected positive"):
        heads.sparse_etf(key, 4, 2, target_norm=0)
    with pytest.raises(ValueError, match=r"kernel has shape \(3,\), expected \[D, C\]"):
        heads.realign_global(jnp.ones(3))
    with pytest.raises(ValueError, match="local_kernel has shape"):
        heads.realign_local(jnp.ones((2, 3)), jnp.ones((3, 2)))
