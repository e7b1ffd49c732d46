import jax
import numpy as np
import pytest

from configs.decisions import get_config
from experiments.decisions import value_gradient


def test_slopes_are_those_of_the_value_at_the_next_states():
    parts = value_gradient.transitions(
        get_config("value_gradient-smoke"), jax.random.key(0)
    )
    w, test = np.asarray(parts["test"]["w"]), parts["test"]
    relevant = np.asarray(test["y"][:, :4])
    want = 2 * w / np.cosh(relevant @ w)[:, None] ** 2
    np.testing.assert_allclose(test["slopes"][:, :4], want, rtol=1e-4, atol=1e-6)
    assert not np.asarray(test["slopes"][:, 4:]).any()
    assert parts["train"]["x"].shape == (40, 16)
    still = np.linalg.lstsq(test["x"], test["y"])[0]  # the two kinds do not mix
    np.testing.assert_allclose(still[:4, 4:], 0, atol=1e-3)


def test_bad_configs_are_refused(refused):
    refused("decisions:value_gradient", "rank", 17, "config.rank 17")
    refused("decisions:value_gradient", "marks", 0, "config.marks is 0")


def test_end_to_end(run_study):
    done = run_study("decisions:value_gradient", seeds=1)
    assert done.figures == ["errors"]
    state = {name: run.final("state_error") for name, run in done.results.items()}
    assert (state["mse"] < state["vagram"]).all()


@pytest.mark.slow
def test_opposite_orders(run_study):
    done = run_study("decisions:value_gradient", steps=1500, train=1000, test=1000)
    value = {name: run.final("value_error") for name, run in done.results.items()}
    assert (value["vagram"] < value["mse"]).all()
