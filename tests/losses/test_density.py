import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import weights
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
    value, grad = step(jnp.float32([-1e30]), jnp.float32([1e30]))
    np.testing.assert_allclose(value, 2e30, rtol=1e-6)
    assert np.isfinite(grad).all()


def test_meco(x64):
    """With all of the tracker from this batch it is the importance-sampled gradient."""
    rng = np.random.default_rng(1)
    f, fn, q = rng.normal(size=(3, 6))
    log_u = weights.meco_update(None, fn, q, gamma=0.1)
    np.testing.assert_allclose(log_u, np.log(np.exp(fn - q).mean()), rtol=1e-12)
    new = weights.meco_update(1.3, fn, q, gamma=0.1)
    want = np.log(0.9 * np.exp(1.3) + 0.1 * np.exp(fn - q).mean())
    np.testing.assert_allclose(new, want, rtol=1e-12)
    assert weights.meco_update(1.3, fn, q, gamma=1) == log_u
    grad = jax.grad(density.meco_loss, (0, 1))(f, fn, q, log_u)
    direct = lambda f, fn: jax.nn.logsumexp(fn - q) - f.mean()  # noqa: E731
    for a, b in zip(grad, jax.grad(direct, (0, 1))(f, fn), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    with pytest.raises(ValueError, match="gamma is 0"):
        weights.meco_update(1.3, fn, q, gamma=0)


def test_nothing_left_costs_nothing():
    one, none = jnp.ones(3), jnp.zeros(3, bool)
    for loss, args, hyper in (
        (density.nce_loss, (one,) * 4, dict(log_z=0.0)),
        (density.meco_loss, (one,) * 3 + (0.0,), {}),
    ):
        for masks in (dict(mask=none), dict(noise_mask=none)):
            value, grad = jax.value_and_grad(loss)(*args, **hyper, **masks)
            assert value == 0
            assert (grad == 0).all()
    with pytest.raises(ValueError, match="noise_mask has shape"):
        density.nce_loss(*(one,) * 4, log_z=0.0, noise_mask=none[:1])
    assert weights.meco_update(0.5, one, one, gamma=0.5, noise_mask=none) == 0.5


def test_weights_beyond_the_largest_number():
    f, fn, q = jnp.float32([0, 1]), jnp.float32([-1, 2]), jnp.float32([-200, -201])
    loss = jax.jit(jax.value_and_grad(density.meco_loss, (0, 1)))
    value, grads = loss(f, fn, q, 0.0)
    assert value == np.inf
    assert np.isfinite(grads[0]).all()
    assert np.isfinite(grads[1]).all()
    value, _ = loss(f, jnp.float32([-1, -2]), q, 0.0)
    assert value == -np.inf
    value, grads = loss(f, fn, -q, 0.0)  # worth nothing
    np.testing.assert_allclose(value, -0.5, rtol=1e-6)
    assert (grads[1] == 0).all()
