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


def test_values_are_read_from_outputs_and_costs_are_the_losses():
    config = get_config("value_learning")
    rng = np.random.default_rng(0)
    z, later = rng.normal(size=(2, 4, 51)).astype("f4")
    reward, bins = rng.normal(size=4).astype("f4"), config.bins
    p = np.exp(later) / np.exp(later).sum(1, keepdims=True)
    q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    edges, atoms = np.linspace(-8, 8, 52), np.linspace(-8, 8, 51)
    read = [later[:, 0], later[:, 0], p @ (edges[1:] + edges[:-1]) / 2, p @ atoms]
    for method, want in enumerate([*read, read[-1]]):
        got = value_learning.values_of(later, method, bins)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    cost = [value_learning.costs(z, later, reward, m, config) for m in range(5)]
    target = reward + 0.8 * read[0]
    np.testing.assert_allclose(cost[0], (z[:, 0] - target) ** 2, rtol=1e-5)
    share = (reward + 0.8 * read[3] + 8) / 16 * 50  # two-hot: of the atom above
    low = np.floor(share).astype(int)
    rows, part = np.arange(4), share - low
    want = -(1 - part) * np.log(q)[rows, low] - part * np.log(q)[rows, low + 1]
    np.testing.assert_allclose(cost[3], want, rtol=1e-3)


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
