import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.policy_gradient import sampler
from logitlab import rl

WORLD = dict(count=40, batch=10, rollouts=4, steps=30)
WORLD |= dict(decay_sample=0.9, decay_global=1.0)


def shares(method, seed=0, **changes):
    world = WORLD | dict(mean=0.0, deviation=0.0, gain=0.0, drift=0.0) | changes
    return np.asarray(sampler.informative(method, jax.random.key(seed), **world))


def test_groups_at_even_odds():
    """Of four fair answers all are alike once in eight times."""
    share = shares("uniform", steps=2000)
    assert abs(share.mean() - 7 / 8) < 4 * np.sqrt(7 / 64 / 20_000)


def test_what_is_known_is_chosen():
    """Ten skills of 0 among many that are certain: the oracle takes them, always."""
    rates = jnp.where(jnp.arange(40) % 4 == 1, 0.5, 1.0)
    state = rl.beta_sampler_init(40)
    at = sampler.choose("oracle", state, jax.random.key(0), 10, rates)
    assert sorted(np.asarray(at).tolist()) == list(range(1, 40, 4))
    at = sampler.choose("uniform", state, jax.random.key(0), 10)
    assert len(set(np.asarray(at).tolist())) == 10


def test_skills_that_grow_end_the_lessons():
    share = shares("uniform", gain=5.0)
    assert share[0] > 0.5
    assert share[-1] < 0.2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("simulation.batch", 2001, "config.simulation.batch is 2001, expected 1 to 20"),
        ("windows", 7, "config.windows is 7, expected a divisor"),
        ("early", 150, "config.early is 150, expected 1 to 149"),
        ("learner.points", 7, "config.learner.points is 7, expected a divisor"),
        ("learner.warm", -1, "config.learner.warm is -1"),
        ("learner.task.base", 1, "config.task has base 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("policy_gradient:sampler", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study, monkeypatch):
    few = {name: sampler.METHODS[name] for name in ("uniform", "vade")}
    monkeypatch.setattr(sampler, "METHODS", few)
    monkeypatch.setattr(sampler, "LEARNERS", ("vade",))
    monkeypatch.setattr(sampler, "STARTS", {"scratch": "from scratch"})
    done = run_study("policy_gradient:sampler")
    np.testing.assert_allclose(
        done.results["scratch_vade"].final("accuracy/0"), 1 / 9, rtol=0.1
    )
    early = [done.results[arm].final("share/early").mean() for arm in few]
    assert early[1] > early[0]
    untested = [v.verdict == "not tested" for v in done.verdicts.values()]
    assert untested == [False] * 2 + [True] * 4
    assert done.figures == ["accuracy", "mixed", "share"]
    mixed = done.results["scratch_vade"].final("mixed/2")
    assert ((mixed >= 0) & (mixed <= 1)).all()
