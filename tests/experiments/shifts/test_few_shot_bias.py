import jax.numpy as jnp
import numpy as np

from experiments.shifts import few_shot_bias


def test_the_strength_of_a_bias():
    """Entropy of two equal classes of four is half of the most: exp(0.4 / 2)."""
    z = jnp.log(jnp.float32([[1, 1, 1e-30, 1e-30], [1, 1, 1, 1]]))
    got = few_shot_bias.strength(z, uncertainty="entropy", power=0.4)
    np.testing.assert_allclose(got, np.exp([0.2, 0.4]), rtol=1e-4)
    alike = few_shot_bias.strength(z, uncertainty="none")
    np.testing.assert_allclose(alike, [1, 1], rtol=1e-4)
