import jax
import numpy as np
import pytest

from experiments.evaluation import gerrymandering


def test_each_attribute_by_itself_says_nothing():
    x, attributes, y = map(
        np.asarray,
        gerrymandering.draw(jax.random.key(0), 40_000, agreement=1.5, features=0.6),
    )
    np.testing.assert_array_equal(x[:, :2], 2 * attributes - 1)
    for column in attributes.T:
        assert abs(y[column == 1].mean() - y[column == 0].mean()) < 0.02
    agree = attributes[:, 0] == attributes[:, 1]
    assert y[agree].mean() - y[~agree].mean() > 0.4


def test_only_joint_penalties_see_the_intersections():
    attributes = np.tile(np.float32([[0, 0], [0, 1], [1, 0], [1, 1]]), (8, 1))
    agree = (attributes[:, 0] == attributes[:, 1]).astype("f4")
    found = {
        name: gerrymandering.penalized(name, agree, attributes)
        for name in ("none", *gerrymandering.PENALTIES)
    }
    assert found["none"] == 0
    assert found["marginal"] < 0  # unbiased, of independent columns
    assert min(found["concatenated"], found["joint"]) > 0.05


def test_gaps():
    attributes = np.int32([[0, 0], [0, 1], [1, 0], [1, 1]])
    found = gerrymandering.unfairness(np.float32([0.8, 0.2, 0.3, 0.5]), attributes)
    want = {"gap/first": 0.1, "gap/second": 0.2, "gap/intersections": 0.6}
    for name, gap in want.items():
        np.testing.assert_allclose(found[name], gap, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weights", (), "config.weights is"),
        ("weights", (10.0, 3.0), "config.weights is"),
        ("weights", (0.0, 3.0), "config.weights is"),
        ("batch_size", 3, "config.batch_size is 3, expected at least 4"),
        ("steps", 0, "config.steps is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:gerrymandering", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:gerrymandering")
    assert done.figures == ["gap", "price"]
    assert list(done.results) == ["none", "marginal_30", "concatenated_30", "joint_30"]
    gaps = [arm.final("gap/intersections") for arm in done.results.values()]
    assert np.isfinite(gaps).all()
