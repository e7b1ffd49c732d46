import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import metrics, report


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def bins_of(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    z = jnp.float32(scale * rng.normal(size=(60, 3)))
    return metrics.calibration_bins(z, jnp.asarray(rng.integers(0, 3, 60)), bins=5)


def test_reliability_diagram_shows_bins_and_their_error():
    bins = {"plain": bins_of(0), "sharp": bins_of(0, 5.0)}
    figure = report.reliability_diagram(bins, title="Two models")
    top, below = figure.axes
    shown = metrics.reliability_bins(bins["sharp"])
    full = np.asarray(shown["count"]) > 0
    want = np.stack([shown["confidence"], shown["accuracy"]], -1)[full]
    np.testing.assert_allclose(top.lines[1].get_xydata(), want, rtol=1e-6)
    error = 100 * float(metrics.calibration_error(bins["sharp"]))
    assert legend(top)[1] == f"sharp: ECE {error:.1f} %"
    assert (top.get_ylabel(), below.get_xlabel()) == ("accuracy", "confidence")
    assert "dotted" in figure.get_supxlabel()


def test_bins_of_several_seeds_are_added():
    one, two = bins_of(1), bins_of(2)
    stacked = metrics.CalibrationBins(
        *(np.stack(pair) for pair in zip(one, two, strict=True))
    )
    lines = [
        report.reliability_diagram({"x": bins}).axes[0].lines[0].get_xydata()
        for bins in (stacked, one + two)
    ]
    np.testing.assert_allclose(*lines, rtol=1e-6)


def test_risk_coverage_curves():
    errors = np.arange(6) % 3 == 0
    curve = metrics.risk_coverage(jnp.arange(6.0), jnp.asarray(errors))
    (axes,) = report.risk_coverage_curves({"a": curve, "b": curve}).axes
    np.testing.assert_allclose(axes.lines[1].get_xydata(), np.stack(curve, -1))
    assert legend(axes)[0].startswith("a: area ")
    assert axes.get_ylim()[0] == 0


def test_score_histograms_have_area_one_each():
    rng = np.random.default_rng(0)
    groups = {"known": rng.normal(size=(10, 20)), "new": np.float32([1, 2, np.inf])}
    (axes,) = report.score_histograms(groups, bins=7, label="energy").axes
    outlines = axes.patches[1::2]
    for outline in outlines:
        values, edges, _ = outline.get_data()
        np.testing.assert_allclose((values * np.diff(edges)).sum(), 1)
    assert legend(axes) == ["known (200)", "new (2, 1 not finite)"]
    assert axes.get_xlabel() == "energy"
    (axes,) = report.score_histograms({"equal": np.ones(3), "none": np.zeros(0)}).axes
    assert legend(axes) == ["equal (3)", "none (0)"]


def test_more_than_a_legend_holds_are_drawn_in_groups():
    groups = {str(i): np.arange(3.0) for i in range(9)}
    first, second = report.score_histograms(groups).axes
    assert [len(legend(axes)) for axes in (first, second)] == [5, 4]
    assert (
        len(report.reliability_diagram({str(i): bins_of(i) for i in range(7)}).axes)
        == 4
    )


def test_nothing_to_draw():
    for draw in (
        report.reliability_diagram,
        report.risk_coverage_curves,
        report.score_histograms,
    ):
        with pytest.raises(ValueError, match="is empty, expected at least one"):
            draw({})
    with pytest.raises(ValueError, match="bins is 0"):
        report.score_histograms({"a": np.ones(2)}, bins=0)
