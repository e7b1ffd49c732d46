import numpy as np
import pytest

from experiments.estimation import forests
from logitlab import estimators


def test_weights_of_bootstrap_samples():
    leaves = np.array([[0, 3], [0, 4], [1, 4]])
    asked = np.array([[0, 4], [1, 3]])
    even = forests.smoothed(leaves, asked, np.ones((3, 2), int))
    want = estimators.leaf_smoother(leaves, asked)
    np.testing.assert_allclose(even, want, rtol=1e-6)
    seen = np.array([[2, 1], [1, 0], [1, 2]])  # one tree has not seen the second row
    found = forests.smoothed(leaves, asked, seen)
    np.testing.assert_allclose(found, [[1 / 3, 1 / 6, 1 / 2], [1 / 2, 0, 1 / 2]])


@pytest.mark.parametrize("data", forests.DATA)
def test_rows_are_ordered_by_distance(data):
    rows = forests.rows(data, 50, np.random.default_rng(0))
    assert len(rows.x) == len(rows.y) == 50
    gaps = rows.test_x[[0, -1], None] - rows.x[None]
    near, far = np.linalg.norm(gaps, axis=-1).min(1)
    assert near < far
    assert len(set(rows.y)) == 50  # told apart


def test_what_cannot_be_run_is_not_built(refused):
    refused("estimation:forests", "trees", (2, 5), "growing numbers from 1 on")


def test_end_to_end(run_study):
    done = run_study("estimation:forests")
    assert done.figures == ["diabetes", "digits", "error"]
    verdicts = [v for v in done.verdicts.values() if v.kind == "theorem"]
    assert [v.verdict for v in verdicts] == ["reproduced"] * 2
    for arm in done.results.values():
        assert np.isfinite([arm.final(name) for name in arm]).all()
