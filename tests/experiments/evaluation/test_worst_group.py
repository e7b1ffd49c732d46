import jax
import numpy as np
import pytest

from experiments.evaluation import worst_group


def test_classes_are_around_the_centers_of_their_groups():
    rows = 20_000, 10_000
    x, y, groups = map(
        np.asarray,
        worst_group.draw(jax.random.key(0), rows, 3, distance=2.0, angle=90.0),
    )
    np.testing.assert_array_equal(groups, np.repeat([0, 1], rows))
    for group, center in enumerate(([2, 0, 0], [0, 2, 0])):
        for label, sign in enumerate((-1, 1)):
            mine = x[(groups == group) & (y == label)]
            np.testing.assert_allclose(
                mine.mean(0), np.multiply(sign, center), atol=0.1
            )
            np.testing.assert_allclose(np.cov(mine.T), np.eye(3), atol=0.1)


def test_objectives():
    """Means are 0.2 and 0.8: their gap is 0.6, their mean 0.5, that of all 0.4."""
    losses, groups = np.float32([0.1, 0.3, 0.8]), np.array([0, 0, 1])
    want = {
        "mean": 0.4,
        "worst": 0.8,
        "gap": 0.7,
        "variance": 0.445,
        "group_mean": 0.65,
    }
    for kind, value in want.items():
        got = worst_group.objective(kind, losses, groups, 0.5)
        np.testing.assert_allclose(got, value, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kinds", ("variance",), "config.kinds is"),
        ("kinds", ("gap", "range"), "config.kinds"),
        ("weight", 0.3, "config.kinds is"),
        ("rows", (10, 0), "config.rows is"),
        ("test", 0, "config.test is 0"),
        ("features", 1, "config.features is 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:worst_group", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:worst_group", test=4000)
    assert done.figures == ["price", "worst"]
    for arm in done.results.values():
        assert (arm.final("accuracy") >= arm.final("accuracy/worst")).all()
    mean, worst = (done.results[n].final("accuracy/worst") for n in ("mean", "worst"))
    assert (worst > mean + 0.02).all()
