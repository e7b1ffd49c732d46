"""What the studies of optimizers refuse, and their small parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.optimization import get_config
from experiments.common import studies
from experiments.optimization import (
    autolrs,
    big_batch,
    bilevel,
    oracle_calls,
    perceptron,
    refinement,
)
from logitlab import optim, train
from logitlab.train import ArmResult


def arm(metric, values, steps):
    rows = [
        {"seed": seed, "step": step, metric: value}
        for seed, column in enumerate(values)
        for step, value in zip(steps, column, strict=True)
    ]
    return ArmResult("arm", tuple(range(len(values))), rows)


def test_calls_and_training_steps():
    found = arm("train/loss", [(3, 1, 0.05), (3, 2, 1)], (0, 1, 2))
    assert oracle_calls.calls(found, 0.1, 9).tolist() == [2, 10]
    config = get_config("autolrs")
    search, plain = (autolrs.points(config, s) for s in (True, False))
    assert len(search) == len(plain) == 20
    assert search[:3] == [1050, 1100, 1150]
    assert plain[:3] == [50, 100, 150]
    losses = np.linspace(1, 0.25, 20)  # 0.6 is passed at the twelfth point
    found = arm("train/loss", [losses, losses + 1], search)
    steps = autolrs.training_steps(config, found, "autolrs")
    assert steps.tolist() == [600, 1050]


def test_a_logarithm_fits_itself():
    steps = (1, 2, 4, 8, 16, 100)
    found = arm("distance", [[1 + 2 * np.log(t) for t in steps]], steps)
    np.testing.assert_allclose(big_batch.fit_of_log(found, 16), 1)


def test_schedules_begin_at_their_peak():
    found = refinement.schedules(10)
    for name, rates in found.items():
        assert rates.shape == (10,), name
        assert (np.diff(rates) <= 1e-6).all(), name
        np.testing.assert_allclose(rates[0], 1, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_steps_of_few_points():
    """Of the prototype's table for 100 points."""
    x, y = perceptron.points(100)
    for size, want in ((100.0, 31), (10.0, 55)):
        got = perceptron.steps_until_separated(optax.sgd(size), x, y, 1000)
        assert got == want
    both = optax.chain(optim.scale_by_inverse_error_mass(), optax.sgd(1.0))
    assert perceptron.steps_until_separated(both, x, y, 1000) == 11


def test_the_toy_is_at_rest_at_its_optimum():
    problem, one = bilevel.toy(4), jnp.ones(4)
    x, y = -0.3 * one, (0.7 * one, -0.4 * one)
    np.testing.assert_allclose(problem.constraint(x, y), 0, atol=1e-6)
    slope = jax.grad(problem.lower, 1)(x, y)
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-5)  # both are minus λ


def test_a_cap_trains_in_a_run():
    run = studies.build(get_config("spike-smoke")).arms["capped_0.001"]
    key = jax.random.key(0)
    state = train.init_state(run.init, run.optimizer, key)
    step = jax.jit(train.make_step(run.loss, run.optimizer, extra_args=run.extra_args))
    batch = jax.tree.map(lambda a: a[:8], run.data["train"])
    for _ in range(2):
        state, loss = step(state, batch)
    assert np.isfinite(loss)
    assert state.opt_state[-1].r > 0


def test_bad_configs_are_refused(refused):
    for key, value, message in (
        ("spike", ("spike_at", 200), "expected a step of 200"),
        ("fingerprint", ("temperatures", (1.0,)), "expected two or more"),
        ("oracle_calls", ("inner", (100, 10)), "growing numbers of inner steps"),
        ("autolrs", ("every", 30), "expected a divisor of 1000"),
        ("big_batch", ("large", 16), "expected them to grow"),
        ("blocks", ("block", 7), "expected a divisor of config.features, 200"),
        ("bilevel", ("cleaning.flipped", 0.7), r"expected a share in"),
        ("soups", ("tune", 1700), "the others are the test set"),
    ):
        refused(f"optimization:{key}", *value, message)
