import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import functions, interpreted

from logitlab import losses, theory
from logitlab.decisions import utility

utility = functions(utility)


def test_update_is_the_gradient_step():
    u = np.float32([[1, -2, 0.5], [30, 0, -3]])
    y = np.array([2, 0])
    step = jax.grad(lambda u: losses.cross_entropy(u, y).sum())(u)
    got = theory.utility_update(u, y, learning_rate=0.3)
    np.testing.assert_allclose(got, u - 0.3 * step, rtol=1e-6)
    assert np.isnan(
        interpreted(lambda y: theory.utility_update(u, y, learning_rate=1))(y + 3)
    ).all()  # noqa: E501


def test_candidates():
    u = np.float32([2, 0, 1])
    p = utility.candidate_probs(u, temperature=0.5)
    np.testing.assert_allclose(p, jax.nn.softmax(u / 0.5), rtol=1e-6)
    cold = utility.candidate_probs(3e38 * jnp.float32([1, -1, 0]), temperature=1e-3)
    np.testing.assert_array_equal(cold, [1, 0, 0])
    gain = np.float32([[1, 0, 0], [0, 9, 0], [0, 0, 1]])
    assert utility.mbr_decision(np.float32([0.6, 0.3, 0.1]), gain) == 1
    assert utility.mbr_decision(cold, gain) == 0  # the most probable one
