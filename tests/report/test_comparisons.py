import numpy as np
import pytest
from scipy import stats

from logitlab import report
from logitlab.report.comparisons import mean_interval


class Arm:
    """Stands in for an ArmResult."""

    def __init__(self, label, values):
        self.label, self._values = label, np.asarray(values, float)

    def __contains__(self, name):
        return name == "accuracy"

    def final(self, name):
        assert name == "accuracy"
        return self._values


RESULTS = {
    "a_0": Arm("a", [0.9, 0.8, 0.85]),
    "a_1": Arm("a, noisy", [0.5, 0.4, 0.6]),
    "b_0": Arm("b", [0.7]),
}


def test_mean_interval():
    values = np.array([0.9, 0.8, 0.85, np.nan])
    mean, half = mean_interval(values)
    known = values[:3]
    low, high = stats.t.interval(0.95, 2, known.mean(), stats.sem(known))
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    assert mean_interval(np.array([3.0])) == (3.0, 0.0)
    assert np.isnan(mean_interval(np.array([np.nan]))[0])


def test_intervals_draws_what_there_is():
    draw = report.intervals(
        {"A": ["a_0", "a_1"], "B": ["b_0", "b_1"]}, ["0%", "80%"], "accuracy"
    )
    axes = draw(RESULTS).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0%", "80%"]
    assert len(axes.containers) == 3  # b_1 was not run
    bars = {c.lines[0].get_ydata()[0] for c in axes.containers}
    np.testing.assert_allclose(sorted(bars), [0.5, 0.7, 0.85])
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert sorted(len(line.get_ydata()) for line in dots) == [1, 3, 3]


def test_intervals_refuses_ragged_series():
    with pytest.raises(ValueError, match="series 'A' has 1 arms for 2 ticks"):
        report.intervals({"A": ["a_0"]}, ["0%", "80%"], "accuracy")
    with pytest.raises(ValueError, match="series is empty"):
        report.intervals({}, [], "accuracy")


def test_ranking_orders_by_the_first_metric():
    axes = report.ranking({"accuracy": "accuracy"}, bounds={"accuracy": 0.6})(
        RESULTS
    ).axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == ["a", "b", "a, noisy"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.85, 0.7, 0.5])
