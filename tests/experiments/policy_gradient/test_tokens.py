import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.policy_gradient import tokens

WORTH = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def test_worth_of_policies():
    uniform, best = np.zeros((3, 4)), np.where(WORTH.max(1)[:, None] == WORTH, 90, 0)
    assert abs(tokens.fraction(jnp.float32(uniform), WORTH)) < 1e-6
    assert abs(tokens.fraction(jnp.float32(best), WORTH) - 1) < 1e-6


def test_rewards_of_sequences_are_standardised():
    """Over all 64 sequences, which a uniform policy takes alike."""
    every = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    r = np.asarray(tokens.standardised(jnp.asarray(WORTH), every))
    np.testing.assert_allclose([r.mean(), r.std()], [0, 1], atol=1e-5)
    total = WORTH[np.arange(3), every].sum(1)
    assert np.corrcoef(r, total)[0, 1] > 1 - 1e-6


def test_dpo_finds_the_worths():
    """Differences within a position are those of the worths over beta."""
    settings = dict(pairs=30_000, beta=0.5, rate=0.1, steps=300)
    fit = jax.jit(functools.partial(tokens.fit_dpo, **settings))
    policy = fit(jax.random.key(0), WORTH)
    got = 0.5 * (np.asarray(policy) - np.mean(policy, 1, keepdims=True))
    assert np.abs(got - (WORTH - WORTH.mean(1, keepdims=True))).max() < 0.1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", 1, "config.tokens is 1, expected at least 2"),
        ("after", (0, 300), "config.after is .*, expected 30, 100, 300 among them"),
        ("after", (-1, 30, 100, 300), "config.after is .*, expected 0 to 300"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("policy_gradient:tokens", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("policy_gradient:tokens")
    arms = done.results
    assert abs(arms["sparse"].final("worth/0")).max() < 1e-6
    ends = [arms[arm].final("worth/40").min() for arm in ("sparse", "rto", "dpo")]
    assert min(ends) > 0.5
    assert len(done.verdicts) == 4
    assert done.figures == ["worth"]
