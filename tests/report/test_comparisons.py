import numpy as np
import pytest

from logitlab import report
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
    "first": arm("the first", at2=[1.0, 3.0], at8=[4.0, 4.0]),
    "other": arm("the other", at2=[10.0, np.nan], at8=[np.inf, 20.0]),
    "none": arm("without", time=[1.0, 1.0]),
}


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
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["the first", "the other", "the end"]
    assert "interval" in figure.legends[0].get_title().get_text()


def test_trends_of_some_arms_keep_their_colours():
    whole = report.trends({2: "at2"})(RESULTS)
    some = report.trends({2: "at2"}, arms=("other",))(RESULTS)
    colours = [line.get_color() for line in lines(whole.axes[0])]
    assert [line.get_color() for line in lines(some.axes[0])] == colours[1:]
    assert "interval" not in some.legends[0].get_title().get_text()  # one seed is left


def test_trends_need_a_metric():
    with pytest.raises(ValueError, match="metrics is empty"):
        report.trends({})


def test_intervals_of_one_series_need_no_legend():
    draw = report.intervals({"x": ("first", "")}, ("one", "two"), "at2", dots="folds")
    (legend,) = draw(RESULTS).legends
    assert not legend.get_texts()
    assert "dots: folds" in legend.get_title().get_text()


def test_intervals_name_more_than_one_series():
    series = {"x": ("first",), "y": ("other",)}
    (legend,) = report.intervals(series, ("one",), "at2")(RESULTS).legends
    assert [text.get_text() for text in legend.get_texts()] == ["x", "y"]
