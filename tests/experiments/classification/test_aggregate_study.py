import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import aggregate
from experiments.common.keys import all_seeds_at_once


def test_errors_without_privacy_are_those_of_numpy():
    config = get_config("aggregate-smoke")
    key = jax.random.key(3)
    found = aggregate.bag_errors(key, config, 20, 2)
    x, y, theta = map(np.float64, aggregate._draw(key, config, 40))
    bags, means = x.reshape(20, 2, -1).mean(1), y.reshape(20, 2).mean(1)
    for rho in config.rhos:
        system = (1 - rho) * bags.T @ bags + rho / 2 * x.T @ x
        error = np.linalg.solve(system, bags.T @ means) - theta
        np.testing.assert_allclose(found[f"rho/{rho:g}"], error @ error, rtol=1e-3)


def test_all_seeds_are_computed_in_one_program():
    config, calls = get_config("aggregate"), []

    def make(key):
        calls.append(0)
        return {"draw": jax.random.uniform(key)}

    for by in ("vmap", "map"):
        get = all_seeds_at_once(config, make, by=by)
        before = len(calls)
        drawn = [get(jax.random.key(seed))["draw"] for seed in range(3)]
        assert len(calls) == before + 1
        want = [jax.random.uniform(jax.random.key(seed)) for seed in range(3)]
        np.testing.assert_array_equal(drawn, want)
        other = jax.random.key(10_000)
        assert get(other)["draw"] == jax.random.uniform(other)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rhos", (0.0, 0.5), "config.rhos is"),
        ("settings", ((60, 5, 1.0),), "config.settings has a best rho of 1.0"),
        ("private.sizes", (1, 7), "config.private.sizes is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:aggregate", key, value, message)
