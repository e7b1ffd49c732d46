import numpy as np
import pytest

from experiments.metric_learning import faces


def test_identities_are_clusters_of_a_digit():
    from sklearn import datasets

    _, digits = datasets.load_digits(return_X_y=True)
    _, names = faces.identities(3)
    np.testing.assert_array_equal(names // 3, digits)
    assert len(np.unique(names)) == 30


def test_what_cannot_be_run_is_not_built(refused):
    refused("metric_learning:faces", "heads", ("cosfase",), "did you mean cosface")


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("metric_learning:faces")
    assert done.figures == ["pairs"]
    rows = done.results["rows"]
    assert (rows.final("least") >= 0).all()
    assert (rows.final("pairs") > 0).all()
