import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.preference import cyclic


def test_preferences_go_in_a_circle():
    wins = np.asarray(cyclic.cyclic_preferences(jax.random.key(0), 5, 2.0, 0.3))
    np.testing.assert_allclose(wins + wins.T, 1, rtol=1e-6)
    odds = np.log(wins / (1 - wins))
    ahead = odds[np.arange(5), (np.arange(5) + 1) % 5]
    assert (abs(ahead - 2) < 1.2).all()
    others = odds[np.arange(5), (np.arange(5) + 2) % 5]
    assert (abs(others) < 1.2).all()
    assert abs(others).max() > 0


@pytest.mark.usefixtures("x64")
def test_newton_with_rare_answers():
    odds = jnp.array([0.0, 1.0, -3.0])
    weights = jnp.array([1.0, 1e-6, 1e-12])  # how often they are seen

    def loss(x):
        gaps = x[:, None] - x[None]
        wins = jax.nn.sigmoid(odds[:, None] - odds[None])
        return jnp.sum(weights[:, None] * weights[None] * wins * jax.nn.softplus(-gaps))

    x = cyclic.newton(loss, jnp.zeros(3), 20)
    np.testing.assert_allclose(x - x[0], odds, atol=1e-9)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False, expected True"),
        ("actions", 2, "config.actions is 2, expected at least 3"),
        ("tau", 3.0, "config.tau is 3.0, config.eta 2.0; expected"),
        ("rounds", 100, "config.rounds is 100, expected at least config.last"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:cyclic", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:cyclic")
    assert done.figures == ["gap"]
    assert {v.verdict for v in done.verdicts.values()} == {"reproduced"}
    gaps = done.results["inpo"].arrays["gap_curve"]
    assert gaps.shape == (2, 401)
    np.testing.assert_array_equal(
        gaps[:, 0], done.results["reward_model"].arrays["gap_curve"][:, 0]
    )
