import numpy as np
import pytest

from experiments.classification import reweighting


def test_a_temperature_that_comes_down():
    falls = [reweighting.temperature(10.0, 0.4, step, 4) for step in (0, 2, 4, 9)]
    np.testing.assert_allclose(falls, [10, 2, 0.4, 0.4], rtol=1e-6)
    assert float(reweighting.temperature(0.4, 0.4, 1, 4)) == pytest.approx(0.4)
    assert float(reweighting.temperature(np.inf, np.inf, 1, 4)) == np.inf


def test_bad_configs_are_refused(refused):
    refused("classification:reweighting", "rates", (0.1,), "two or more")
    refused("classification:reweighting", "wrong.share", 0.0, "config.wrong.share")


def test_end_to_end(run_study):
    done = run_study("classification:reweighting")
    assert done.figures == ["exact", "rates", "temperature", "wrong"]
    for name, result in done.results.items():
        assert np.isfinite(result.final("error")).all(), name
