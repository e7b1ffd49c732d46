import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import few_shot


def test_digits_are_divided_into_seen_labeled_and_tested_ones():
    config = get_config("few_shot")
    y = np.repeat(np.arange(10), 180)
    x = np.stack([y, np.arange(1800)], 1)
    rows = few_shot.divided(jax.random.key(0), x, y, config)
    assert {*rows["seen_x"][:, 0]} == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(rows["x"][:, 0] - 5, rows["y"])
    np.testing.assert_array_equal(rows["y"][:10], [0, 1, 2, 3, 4] * 2)
    assert len(rows["test_y"]) == 350
    assert not {*rows["x"][:, 1]} & {*rows["test_x"][:, 1]}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("shots", (1, 2), "config.shots is"), ("seen", (1, 11), "config.seen is")],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:few_shot", key, value, message)
