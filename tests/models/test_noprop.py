import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import models


def test_updates_preserve_the_marginals(x64):
    """From N(sqrt(alpha_bar) u, 1 - alpha_bar) of a step to that of the next."""
    schedule = models.noprop_schedule(10)
    before, after = schedule.alpha_bar[:-1], schedule.alpha_bar[1:]
    mean = schedule.a + schedule.b * np.sqrt(before)
    np.testing.assert_allclose(mean, np.sqrt(after), rtol=1e-12)
    variance = schedule.b**2 * (1 - before) + schedule.c
    np.testing.assert_allclose(variance, 1 - after, rtol=1e-9)
    np.testing.assert_allclose(
        schedule.snr_diff.sum(), 0.9999 / 1e-4 - 1e-4 / 0.9999, rtol=1e-9
    )
    assert (schedule.snr_diff > 0).all()


def test_right_predictions_arrive():
    schedule, u = models.noprop_schedule(10), jnp.eye(3)[:2]

    def block(shift, z):
        return u + shift + 0 * z

    z, u_hat = models.noprop_forward(
        block, jnp.zeros(10), jax.random.key(0), schedule=schedule, shape=u.shape
    )
    np.testing.assert_allclose(u_hat, jnp.broadcast_to(u, (10, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(z, u, atol=0.1)
    noisy, _ = models.noprop_forward(
        block,
        jnp.zeros(10),
        jax.random.key(0),
        schedule=schedule,
        shape=u.shape,
        last_noise=True,
    )
    assert 0 < jnp.abs(noisy - z).max() < 0.1  # sqrt(c) of the last step is 0.01


def test_mistakes():
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        models.noprop_schedule(0)
    with pytest.raises(ValueError, match="expected 0 <= low < high < 1"):
        models.noprop_schedule(3, high=1.0)
    with pytest.raises(ValueError, match=r"blocks have arrays of \[\(4,\)\] in front"):
        models.noprop_forward(
            lambda p, z: z,
            jnp.zeros(4),
            jax.random.key(0),
            schedule=models.noprop_schedule(3),
            shape=(1, 2),
        )
