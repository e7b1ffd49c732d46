import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.robustness import tail


def test_long_tail():
    got = tail.sizes(110, 110 / 9)
    assert (got[0], got[-1], len(got)) == (110, 9, 10)
    assert got == sorted(got, reverse=True)
    draw = tail._drawing(ConfigDict(dict(largest=110, imbalance=110 / 9, test=60)))
    rows = draw(jax.random.key(0))
    assert np.bincount(rows["train"]["y"]).tolist() == got
    assert np.bincount(rows["test"]["y"]).tolist() == [60] * 10
    known = {image.tobytes() for image in np.asarray(rows["train"]["x"])}
    seen = sum(image.tobytes() in known for image in np.asarray(rows["test"]["x"]))
    assert seen <= 2  # images that scikit-learn has twice


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("r", (1.0, 4.0), "expected falling positive numbers"),
        ("worst", 10, "config.worst is 10"),
        ("largest", 150, "config.largest is 150"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("robustness:tail", key, value, message)


def test_end_to_end(run_study):
    done = run_study("robustness:tail", seeds=1)
    assert done.figures == ["price", "tail"]
    for arm in done.results.values():
        assert arm.final("robust/tail") <= arm.final("robust/accuracy")
        assert arm.final("robust/accuracy") <= arm.final("accuracy")
    assert "running" in done.results
