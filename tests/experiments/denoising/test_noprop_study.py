import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from experiments.denoising import noprop
from logitlab import models


def test_no_gradient_passes_between_blocks():
    """Exactly 0 across blocks, where a block's own is not."""
    schedule = models.noprop_schedule(3)
    keys = jax.random.split(jax.random.key(0), 3)
    blocks = jax.random.normal(keys[0], (3, 4, 2))
    x, u = jax.random.normal(keys[1], (5, 2)), jax.nn.one_hot(jnp.arange(5) % 2, 2)
    z = noprop.latents(keys[2], u, schedule)[:-1]

    def apply(params, z, x):
        return jax.nn.softmax(jnp.concatenate([x, z], -1) @ params)

    slopes = interpreted(
        lambda blocks: noprop.gradients_across(apply, blocks, z, x, u, schedule, 0.1)
    )
    across, own = slopes(blocks)
    assert across == 0
    assert own > 0


def test_latents_are_the_label_behind_noise():
    schedule = models.noprop_schedule(4)
    z = noprop.latents(jax.random.key(0), jnp.ones((20_000, 1)), schedule)
    bar = np.asarray(schedule.alpha_bar)
    np.testing.assert_allclose(z.mean((1, 2)), np.sqrt(bar), atol=0.03)
    np.testing.assert_allclose(z.var((1, 2)), 1 - bar, atol=0.04)


def test_bad_configs_are_refused(refused):
    refused("denoising:noprop", "blocks", 0, "config.blocks is 0, expected at least 1")
    refused("denoising:noprop", "sets", ("mnist",), "config.sets has no 'mnist'")
