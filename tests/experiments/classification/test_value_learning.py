import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import value_learning


def test_values_solve_the_equation_of_bellman():
    config = get_config("value_learning")
    values, chances = value_learning.true_values(config), value_learning.walk(0.6)
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_allclose(np.diag(chances), 0.6)
    expected = value_learning.rewards() + 0.8 * chances @ values
    np.testing.assert_allclose(values, expected)
    assert abs(values).max() < 5


def test_transitions_go_to_neighbors_and_pay_what_the_digit_pays():
    config = get_config("value_learning")
    y = np.arange(10).repeat(180)
    x = np.stack([y, np.arange(1800)], 1)
    rows = value_learning.transitions(jax.random.key(0), x, y, config)
    assert rows.x.shape == (1300, 2)
    assert rows.test_x.shape == (500, 2)
    state, following = np.asarray(rows.x)[:, 0], np.asarray(rows.next)[:, 0]
    np.testing.assert_array_equal(rows.reward, np.where(state < 5, -1, 1))
    moved = (following - state) % 10
    assert set(moved) == {0, 1, 9}
    assert abs((moved == 0).mean() - 0.6) < 0.1
    assert np.abs(rows.error).max() > 3
    values = value_learning.true_values(config)
    got = rows.test_value - values[np.asarray(rows.test_x)[:, 0]]
    np.testing.assert_allclose(got, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("noise.scales", (-1.0,), "config.noise.scales is"),
        ("discount", 1.0, "config.discount is 1.0"),
        ("bins.vmax", 4.0, "config.bins goes from -8.0 to 4.0"),
        ("train", 0, "config.train is 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:value_learning", key, value, message)
