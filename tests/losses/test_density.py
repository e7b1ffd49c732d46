import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import functions

from logitlab.losses import density

density = functions(density)


def test_nce(x64):
    rng = np.random.default_rng(0)
    f, fn, q, qn = rng.normal(size=(4, 5)) * 3
    data, noise = (a - b - 0.3 - np.log(2.0) for a, b in ((f, q), (fn, qn)))
    want = np.log1p(np.exp(-data)).mean() + 2 * np.log1p(np.exp(noise)).mean()
    got = density.nce_loss(f, fn, q, qn, log_z=0.3, nu=2.0)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    keep = np.arange(5) < 3
    masked = density.nce_loss(f, fn, q, qn, log_z=0.3, mask=keep, noise_mask=keep)
    kept = density.nce_loss(f[:3], fn[:3], q[:3], qn[:3], log_z=0.3)
    np.testing.assert_allclose(masked, kept, rtol=1e-12)


def test_nce_is_exact_and_finite():
    step = jax.jit(
        jax.value_and_grad(lambda f, q: density.nce_loss(f, -f, q, q, log_z=0.0))
    )  # noqa: E501
    value, grad = step(jnp.float32([80]), jnp.zeros(1))
    np.testing.assert_allclose(value, 2 * np.exp(-80.0), rtol=1e-5)
    np.testing.assert_allclose(grad, [-2 * np.exp(-80.0)], rtol=1e-5)
    value, grad = step(jnp.float32([-3e38]), jnp.float32([3e38]))
    assert value == np.inf
    assert np.isfinite(grad).all()


def test_meco(x64):
    """With all of the tracker from this batch it is the importance-sampled gradient."""
    rng = np.random.default_rng(1)
    f, fn, q = rng.normal(size=(3, 6))
    log_u = density.meco_update(None, fn, q, gamma=0.1)
    np.testing.assert_allclose(log_u, np.log(np.exp(fn - q).mean()), rtol=1e-12)
    new = density.meco_update(1.3, fn, q, gamma=0.1)
    want = np.log(0.9 * np.exp(1.3) + 0.1 * np.exp(fn - q).mean())
    np.testing.assert_allclose(new, want, rtol=1e-12)
    assert density.meco_update(1.3, fn, q, gamma=1) == log_u
    grad = jax.grad(density.meco_surrogate, (0, 1))(f, fn, q, log_u)
    direct = lambda f, fn: jax.nn.logsumexp(fn - q) - f.mean()  # noqa: E731
    for a, b in zip(grad, jax.grad(direct, (0, 1))(f, fn), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    with pytest.raises(ValueError, match="gamma is 0"):
        density.meco_update(1.3, fn, q, gamma=0)
