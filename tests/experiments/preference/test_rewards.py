import jax
import numpy as np
import pytest

from experiments.preference import rewards as rewards_study


@pytest.mark.usefixtures("x64")
def test_tilting_reaches_the_divergence():
    utilities = np.random.default_rng(0).normal(size=500) * 30
    tilted = jax.jit(rewards_study.tilted)
    for kl in (0.1, 2.0):
        z = np.asarray(tilted(utilities, kl))
        p = np.exp(z)
        np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(p @ z + np.log(500), kl, rtol=1e-9)
        slope = np.polyfit(utilities, z, 1)
        np.testing.assert_allclose(np.polyval(slope, utilities), z, atol=1e-8)


def test_utilities():
    rewards = np.float32([[1, -3], [2, 0]])
    ref = np.float32([1, 0])

    def lsc(x):
        return -np.log1p(np.exp(-x))

    want = dict(raw=[3, -3], late=lsc(np.array([2, -4])))
    want["lsc"] = lsc(np.array([0, -4])) + lsc(np.array([2, 0]))
    for method, values in want.items():
        found = rewards_study.utility(method, rewards, ref)
        np.testing.assert_allclose(found, values, rtol=1e-6)


def test_rewards_are_correlated():
    rewards = rewards_study.draw(jax.random.key(0), (20_000,), 2.5, -0.3)
    np.testing.assert_allclose(np.std(rewards, 1), 2.5, rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(rewards)[0, 1], -0.3, atol=0.02)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False, expected True"),
        ("divergences", (2.0, 9.0), "config.divergences is .* between 0 and 8.29"),
        ("claim_at", 2.5, "config.claim_at is 2.5, expected one of"),
        ("good", 1.0, "config.good is 1.0, expected between 0 and 1"),
        ("hack.best_of", (0, 2), "config.hack.best_of is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:rewards", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:rewards")
    assert done.figures == ["both", "hacked"]
    assert {v.verdict for v in done.verdicts.values()} == {"reproduced"}
