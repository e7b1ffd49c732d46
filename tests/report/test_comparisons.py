import numpy as np
import pytest
from scipy import stats

from logitlab import report
from logitlab.report.comparisons import mean_interval
from logitlab.train import ArmResult


def arm(label, seeds=2, **columns):
    """A computed arm: one number for each metric and seed."""
    rows = [
        {"arm": "a", "seed": str(seed), "step": "0"}
        | {name: str(values[seed]) for name, values in columns.items()}
        for seed in range(seeds)
    ]
    return ArmResult(label, range(seeds), rows)


RESULTS = {
    "first": arm("the first", 3, at2=[1.0, 2.0, 3.0], at8=[4.0, 4.0, 4.0]),
    "other": arm("the other", 3, at2=[10, 10, np.nan], at8=[np.inf, 20, 20]),
    "none": arm("without", time=[1.0, 1.0]),
}


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    return [c.lines[0] for c in axes.containers]


def test_trends_go_through_the_means_of_what_is_finite():
    figure = report.trends(
        {2: "at2", 8: "at8"}, log=True, log_across=True, bound=(30, "the end")
    )(RESULTS)
    (axes,) = figure.axes
    got = [line.get_xydata().tolist() for line in lines(axes)]
    assert got == [[[2, 2], [8, 4]], [[2, 10], [8, 20]]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert words(axes) == ["the first", "the other", "the end"]
    assert "interval" in figure.get_supxlabel()


def test_trends_of_some_arms_keep_their_colors():
    whole = report.trends({2: "at2"})(RESULTS)
    some = report.trends({2: "at2"}, arms=("other",))(RESULTS)
    colors = [line.get_color() for line in lines(whole.axes[0])]
    assert [line.get_color() for line in lines(some.axes[0])] == colors[1:]
    assert "interval" not in some.get_supxlabel()  # two seeds are left


def test_trends_need_a_metric():
    with pytest.raises(ValueError, match="metrics is empty"):
        report.trends({})


def test_intervals_of_one_series_need_no_legend():
    draw = report.intervals({"x": ("first", "")}, ("one", "two"), "at2", dots="folds")
    figure = draw(RESULTS)
    assert figure.axes[0].get_legend() is None
    assert "dots: folds" in figure.get_supxlabel()


def test_intervals_name_more_than_one_series():
    series = {"x": ("first",), "y": ("other",)}
    (axes,) = report.intervals(series, ("one",), "at2")(RESULTS).axes
    assert words(axes) == ["x", "y"]


@pytest.mark.parametrize(
    "draw",
    [
        report.trends({1: "y"}, bound=(3, "the bound")),
        report.intervals({str(i): [str(i)] for i in range(9)}, ["tick"], "y"),
        report.frontier(
            {str(i): {str(i): ""} for i in range(9)}, across=("y", ""), up=("y", "")
        ),
    ],
    ids=["trends", "intervals", "frontier"],
)
def test_more_than_six_are_drawn_in_panels_of_their_own(draw):
    results = {str(i): arm(str(i), seeds=1, y=[float(i)]) for i in range(9)}
    first, second = draw(results).axes
    bound = ["the bound"] if "the bound" in words(first) else []
    assert words(first) == ["0", "1", "2", "3", "4", *bound]
    assert words(second) == ["5", "6", "7", "8", *bound]
    assert first.get_ylim() == second.get_ylim()
    assert len(lines(first)) == 5
    assert len(lines(second)) == 4


def test_a_frontier_goes_through_the_means_both_ways():
    series = {"x": {"first": "1", "absent": "2"}, "y": {"other": "3"}, "z": {"no": ""}}
    draw = report.frontier(
        series, across=("at2", "two"), up=("at8", "eight"), marks="numbers: n"
    )
    results = RESULTS | {"other": arm("other", at2=[0.0, 2.0], at8=[5.0, 7.0])}
    figure = draw(results)
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in lines(axes)] == [[[2, 4]], [[1, 6]]]
    assert [text.get_text() for text in axes.texts] == ["1", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("two", "eight")
    assert words(axes) == ["x", "y"]
    assert figure.get_supxlabel().startswith("numbers: n; bars")
    with pytest.raises(ValueError, match="series is empty"):
        report.frontier({}, across=("a", ""), up=("b", ""))


ACCURACIES = {
    "a_0": arm("a", seeds=3, accuracy=[0.9, 0.8, 0.85]),
    "a_1": arm("a, noisy", seeds=3, accuracy=[0.5, 0.4, 0.6]),
    "b_0": arm("b", seeds=1, accuracy=[0.7]),
}


def test_differences_are_paired_and_ordered():
    draw = report.differences("accuracy", "base", scale=100)
    results = {
        "worse": arm("worse", seeds=3, accuracy=[0.8, 0.9, 0.5]),
        "base": arm("base", seeds=3, accuracy=[0.9, 0.8, 0.7]),
        "better": arm("better", seeds=3, accuracy=[1.0, 0.9, 0.8]),
        "untold": arm("untold", seeds=3, time=[1, 1, 1]),
    }
    figure = draw(results)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["worse", "better"]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    np.testing.assert_allclose(dots[0].get_xdata(), [-10, 10, -20])
    np.testing.assert_allclose(dots[1].get_xdata(), [10, 10, 10])
    (won,) = axes.child_axes
    assert [t.get_text() for t in won.get_yticklabels()] == ["1/3", "3/3"]
    (axes,) = report.differences("accuracy", "base", arms=("worse",))(results).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["worse"]


def test_joined_intervals_have_a_line_through_their_means():
    series = {"a": ("a_0", "a_1"), "b": ("b_0", "")}
    draw = report.intervals(series, ("0", "1"), "accuracy", joined=True)
    (axes,) = draw(ACCURACIES).axes
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    (through,) = [line.get_ydata() for line in lines if len(line.get_ydata()) == 2]
    np.testing.assert_allclose(list(through), [0.85, 0.5])


def test_two_seeds_have_no_interval():
    results = {name: arm(name, seeds=2, accuracy=[0.75, 1.0]) for name in "ab"}
    figure = report.intervals({"a": "a", "b": "b"}, ("0",), "accuracy")(results)
    assert figure.axes[0].get_ylim()[1] < 1.1
    assert figure.get_supxlabel() == "dots: seeds"
    figure = report.frontier(
        {"a": {"a": ""}}, across=("accuracy", "a"), up=("accuracy", "a")
    )(results)
    assert not figure.get_supxlabel()


def test_mean_interval():
    values = np.array([0.9, 0.8, 0.85, np.nan])
    mean, half = mean_interval(values)
    known = values[:3]
    low, high = stats.t.interval(0.95, 2, known.mean(), stats.sem(known))
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    assert mean_interval(np.array([3.0])) == (3.0, 0.0)
    assert mean_interval(np.array([0.75, 1.0])) == (0.875, 0.0)
    assert np.isnan(mean_interval(np.array([np.nan]))[0])


def test_intervals_draws_what_there_is():
    draw = report.intervals(
        {"A": ["a_0", "a_1"], "B": ["b_0", "b_1"]}, ["0%", "80%"], "accuracy"
    )
    axes = draw(ACCURACIES).axes[0]
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
    draw = report.ranking({"accuracy": "accuracy"}, bounds={"accuracy": 0.6})
    axes = draw(ACCURACIES).axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == ["a, noisy", "b", "a"][::-1]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.85, 0.7, 0.5])
