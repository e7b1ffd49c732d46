import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from experiments.robustness import control


def test_costs_by_trying_all_actions():
    prices = np.random.default_rng(0).uniform(size=(2, 3)).astype("f4")
    costs = interpreted(control.costs_to_go)(jnp.asarray(prices))
    changes = range(-control.MOST, control.MOST + 1)
    start = 3
    for row, series in enumerate(prices):
        best = {}
        for plan in itertools.product(changes, repeat=3):
            levels = np.cumsum((start, *plan))
            if levels.min() < 0 or levels.max() > control.LEVELS:
                continue
            energy = [c / control.LOSS if c > 0 else c * control.LOSS for c in plan]
            cost = (series @ energy - series.mean() * levels[-1]) / control.LEVELS
            best[plan[0]] = min(best.get(plan[0], np.inf), cost)
        got = dict(zip(changes, np.asarray(costs[row, 0, start]), strict=True))
        assert np.isinf(got.pop(-4))
        np.testing.assert_allclose(
            [got[c] for c in sorted(best)], [best[c] for c in sorted(best)], atol=1e-5
        )


def test_the_best_plan_costs_what_the_program_says():
    """A policy that follows the program, without an attack."""
    series = interpreted(lambda key: control.days(key, 3, 4, 2))(jax.random.key(0))
    calls = itertools.count()  # two in an hour

    def policy(x):
        level = np.round(np.asarray(x[:, -1]) * control.LEVELS).astype(int)
        costs = np.asarray(series.costs)[:, next(calls) // 2]
        best = np.take_along_axis(costs, level[:, None, None], 1)[:, 0].argmin(-1)
        return jnp.arctanh(jnp.clip(best / control.MOST - 1, -0.9999999, 0.9999999))

    with jax.disable_jit():  # the policy counts
        cost, length, other = control.played(policy, series, jax.random.key(1))
    best = series.costs[:, 0, control.LEVELS // 2].min(-1) + series.prices.mean(1) / 2
    np.testing.assert_allclose(cost, best.mean(), atol=1e-4)
    assert length == other == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("eps", (0.2, 0.1), "expected growing positive radii"),
        ("ahead", 73, "config.ahead is 73"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("robustness:control", key, value, message)


def test_end_to_end(run_study):
    done = run_study("robustness:control", seeds=1)
    assert done.figures == ["cost"]
    for arm in done.results.values():
        assert 0 < arm.final("distortion/0.1") <= 0.1 * 3**0.5 + 1e-6
