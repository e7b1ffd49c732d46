import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from experiments.distillation import bit_widths
from logitlab import models

W = np.float32([-3, -0.9, 0.2, 1.4, 7])  # 7 is beyond the last of four places


def test_on_a_grid():
    got = interpreted(lambda w: bit_widths.on_grid(w, jnp.array(1.0), jnp.array(2.0)))
    np.testing.assert_array_equal(got(W), [-2, -1, 0, 1, 1])
    want = models.fake_quantize(W, bits=3, step=0.5)
    got = interpreted(lambda w: bit_widths.on_grid(w, jnp.array(0.5), jnp.array(3.0)))
    np.testing.assert_allclose(got(W), want)


def test_slopes_are_those_of_learned_steps():
    def total(w, step):
        return bit_widths.on_grid(w, step, jnp.array(2.0)).sum()

    slopes = interpreted(jax.grad(total, (0, 1)))(W, jnp.array(1.0))
    np.testing.assert_array_equal(slopes[0], [0, 1, 1, 1, 0])
    # Beyond the ends the last places, -2 and 1; between them the rounding errors.
    np.testing.assert_allclose(slopes[1], -2 + 1 - 0.1 - 0.2 - 0.4, rtol=1e-5)


@pytest.mark.parametrize("bits", [(2, 8), (4, 2, 8), (1, 2, 3)])
def test_what_cannot_be_run_is_not_built(refused, bits):
    refused("distillation:bit_widths", "bits", bits, "config.bits is")


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:bit_widths")
    assert done.figures == ["bits", "grids"]
    for arm in done.results.values():
        assert np.isfinite([arm.final(name) for name in arm]).all()
