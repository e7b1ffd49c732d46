import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.preference import bandits


@pytest.mark.usefixtures("x64")
def test_ppo_stops_at_its_bounds():
    """Its slope is REINFORCE's until a ratio leaves the bounds, and then 0."""
    settings = dict(clip=0.2)
    actions, advantages = jnp.array([[0, 1]]), jnp.array([[1.0, -1.0]])
    old = jnp.log(jnp.array([0.25, 0.25, 0.5]))
    slope = jax.grad(bandits.loss_of("ppo", settings))
    plain = jax.grad(bandits.loss_of("reinforce", settings))
    given = (old, actions, advantages, advantages)
    start = plain(old, *given, old)
    np.testing.assert_allclose(slope(old, *given, old), start, atol=1e-12)
    far = old + jnp.array([1.0, -1.0, 0.0])
    np.testing.assert_array_equal(slope(far, *given, old), 0)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:spread", seeds=1)
    assert done.figures == ["training", "width_2", "width_4"]
    assert done.results["ppo_on_policy"].arrays["2_curve"].shape == (1, 5)


def test_what_cannot_be_run_is_not_built(refused):
    refused("preference:spread", "widths", (0.0,), "expected positive numbers")
    refused("preference:spread", "rounds", 7, "config.rounds is 7, expected a divisor")
