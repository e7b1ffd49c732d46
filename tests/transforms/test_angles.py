import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import transforms
from logitlab.transforms import angles

calls = functions(angles)


def test_by_definition(x64):
    rng = np.random.default_rng(0)
    h, w = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5))
    lengths = np.linalg.norm(h, axis=-1, keepdims=True) * np.linalg.norm(w, axis=0)
    cosine, linear = calls.angle_norm_logits(h, w, scale=7.0)
    np.testing.assert_allclose(linear, h @ w, 1e-12)
    np.testing.assert_allclose(cosine, 7 * (h @ w) / lengths, 1e-12)


def test_extremes_and_zeros():
    h, w = jnp.float32([[1e30, 0], [0, 0]]), jnp.float32([[1e-30, 1], [0, 1]])
    cosine, _ = calls.angle_norm_logits(h, w)
    np.testing.assert_allclose(cosine, [[10, 50**0.5 * 1.0], [0, 0]], 1e-6)
    total = jax.grad(lambda h, w: transforms.angle_norm_logits(h, w)[0].sum(), (0, 1))
    grads = interpreted(total)(h, w)
    assert all(np.isfinite(g).all() for g in grads)
    both = jax.eval_shape(transforms.angle_norm_logits, h.astype("bfloat16"), w)
    assert [a.dtype for a in both] == [jnp.float32] * 2


def test_errors():
    with pytest.raises(ValueError, match="kernel has shape"):
        transforms.angle_norm_logits(jnp.ones(3), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="scale is 0"):
        transforms.angle_norm_logits(jnp.ones(2), jnp.eye(2), scale=0)
