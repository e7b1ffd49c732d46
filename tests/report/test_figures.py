import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from logitlab.report import Panel, curves, panels, save, small_multiples
from logitlab.report.figures import PALETTE

STEPS = np.array([0, 1, 3, 10, 30, 100, 300, 1000])


class Arm:
    """Stands in for an ArmResult."""

    def __init__(self, label, steps=STEPS, **metrics):
        self.label, self.steps, self._metrics = label, np.asarray(steps), metrics

    def __getitem__(self, name):
        return np.asarray(self._metrics[name.replace("/", "_")], np.float64)

    def __contains__(self, name):
        return name.replace("/", "_") in self._metrics


def study(arms, seeds=3):
    """Grokking: a delay, exact zeros of the loss, and every third run stops early."""
    results = {}
    for i in range(arms):
        x = np.log10(STEPS + 1)[:, None] + 0.05 * np.arange(seeds)
        test, train = 1 / (1 + np.exp(4 * (2 + 0.1 * i - np.stack([x, x + 1]))))
        loss = np.where(x > 2, 0, 10 ** (-3 * x))
        if i % 3 == 2:
            for metric in (test, train, loss):
                metric[-2:, 0] = np.nan
        metrics = dict(test_accuracy=test, train_accuracy=train, train_loss=loss)
        results[f"arm{i}"] = Arm(f"arm number {i}, with a name", **metrics)
    return results


def one(values, steps=STEPS):
    values = np.asarray(values, np.float64)
    return {"a": Arm("a", steps, loss=values if values.ndim == 2 else values[:, None])}


def rendered(figure):
    """The renderer, once the layout has been done."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return canvas.get_renderer()


def median_lines(axes):
    return [
        line
        for line in axes.lines
        if line.get_linewidth() > 1 and line.get_marker() != "."
    ]


def entries(axes):
    """Labels and handles of the legend beside a panel."""
    legend = axes.get_legend()
    labels = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    return dict(zip(labels, legend.legend_handles, strict=True))


def tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


PAIR = Panel("test/accuracy", also="train/accuracy")
LOSS = Panel("train/loss", log=True)
DRAWINGS = {
    "curves": curves("train/accuracy", "test/accuracy", title="Grokking"),
    "one": curves("test/accuracy", log_steps=False),
    "ragged": panels([[PAIR, LOSS], [LOSS, PAIR, LOSS]], title="Long title " * 20),
    "small": small_multiples(("test/accuracy", "train/accuracy"), title="Grokking"),
    "small loss": small_multiples("train/loss", log_values=True),
}


@pytest.mark.sampled
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_nothing_overlaps_or_is_clipped(drawing):
    for arms, seeds in [(1, 1), (16, 3)]:  # the emptiest and the fullest
        check_layout(DRAWINGS[drawing](study(arms, seeds)))


@pytest.mark.slow
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_nothing_overlaps_in_between(drawing):
    for arms, seeds in [(5, 3), (16, 1)]:
        check_layout(DRAWINGS[drawing](study(arms, seeds)))


def check_layout(figure):
    """No two boxes overlap, none leaves the page, and none is too small to read."""
    renderer = rendered(figure)
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for a, b in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, along) <= 0.5  # pixels
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        assert axes.bbox.width > 120
        assert axes.bbox.height > 70


def test_panels_and_labels():
    figure = panels([[PAIR, LOSS], [LOSS, Panel("test/accuracy", "share", also="x")]])(
        study(2)
    )
    labels = ["accuracy", "train loss\n(log, 0 at the floor)"]
    assert [axes.get_ylabel() for axes in figure.axes] == labels + labels[1:] + [
        "share"
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "step", "step"]
    figure = curves("a_b", "test/accuracy", labels={"a_b": "norm"}, title="T")(study(2))
    assert [a.get_ylabel() for a in figure.axes] == ["norm", "test accuracy"]
    assert figure.get_suptitle() == "T"
    figure = panels([[LOSS]], across="classes")(study(1))
    assert figure.axes[0].get_xlabel() == "classes"
    rows = [[LOSS] * 2, [LOSS] * 3]
    widths = [a.bbox.width for a in panels(rows)(study(1)).axes]
    assert min(widths[:2]) > max(widths[2:])


def test_legends_of_at_most_six_entries():
    results = study(16)
    results["closed form"] = Arm("no curves", test_error=np.zeros((8, 1)))
    figure = curves("train/accuracy", "test/accuracy")(results)
    beside = [axes for axes in figure.axes if axes.get_legend()]
    assert [axes.get_ylabel() for axes in beside] == ["test accuracy"] * 3
    shown = [entries(axes) for axes in beside]
    assert [len(legend) for legend in shown] == [6, 5, 5]
    named = {name: handle for legend in shown for name, handle in legend.items()}
    assert list(named) == [f"arm number {i}, with a name" for i in range(16)]
    for arm, handle in enumerate(named.values()):
        assert handle.get_color() == PALETTE[arm % 8]
    assert figure.get_supxlabel() == (
        "thin: each seed, thick: the median; dot: a run ended there"
    )
    assert curves("test/accuracy")(study(2, seeds=1)).get_supxlabel() == ""


def test_each_group_is_drawn_beside_its_names():
    figure = curves("test/accuracy")(study(9, seeds=1))
    upper, lower = figure.axes
    for axes, arms in ((upper, range(5)), (lower, range(5, 9))):
        drawn = [line.get_color() for line in median_lines(axes)]
        assert drawn == [PALETTE[arm % 8] for arm in arms]
        assert [h.get_color() for h in entries(axes).values()] == drawn
    assert upper.get_ylim() == lower.get_ylim()
    assert upper.get_xlim() == lower.get_xlim()
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "step")


def test_notes_explain_dashes():
    figure = panels([[PAIR, LOSS]])(study(2, seeds=1))
    assert len(entries(figure.axes[1])) == 2
    assert figure.get_supxlabel() == "solid: test accuracy; dashed: train accuracy"
    figure = small_multiples(("test/accuracy", "train/accuracy"))(study(16))
    assert figure.get_supxlabel().startswith("solid: test accuracy; dashed: train")
    assert not any(axes.get_legend() for axes in figure.axes)
    # Two arms of one color in a panel: the second has dashes of its own.
    figure = panels([[PAIR]], arms=["arm1", "arm9"])(study(10, seeds=1))
    assert figure.get_supxlabel() == (
        "solid or dash-dotted: test accuracy; dashed or dotted: train accuracy"
    )


def test_no_two_lines_look_alike():
    every_eighth = [f"arm{i}" for i in range(0, 32, 8)]  # all of one color
    for arms, lines in ((None, 12), (every_eighth, 8)):
        for axes in panels([[PAIR]], arms=arms)(study(32, seeds=1)).axes:
            looks = [  # get_linestyle says "--" for every pattern
                (line.get_color(), line._unscaled_dash_pattern)
                for line in median_lines(axes)
            ]
            assert len({str(look) for look in looks}) == len(looks) <= lines


def test_an_arm_keeps_its_color():
    results = study(10)
    everywhere = curves("test/accuracy", "train/accuracy")(results)
    some = curves("test/accuracy", arms=["arm7", "arm3", "was not run"])(results)
    small = small_multiples("test/accuracy")(results)
    for group in (everywhere.axes[::2], everywhere.axes[1::2]):
        colors = [line.get_color() for axes in group for line in median_lines(axes)]
        assert colors == [PALETTE[i % 8] for i in range(10)]
    colors = [line.get_color() for line in median_lines(some.axes[0])]
    assert colors == [PALETTE[3], PALETTE[7]]
    colors = [median_lines(axes)[0].get_color() for axes in small.axes]
    assert colors == [PALETTE[i % 8] for i in range(10)]


def test_arms_of_one_objective_share_a_color():
    results = study(4)
    names = list(results)
    colors = dict(zip(names, ["ce", "gce", "ce", "gce"], strict=True))
    figure = small_multiples("test/accuracy", colors=colors)(results)
    shown = [median_lines(axes)[0].get_color() for axes in figure.axes]
    assert shown == [PALETTE[0], PALETTE[1], PALETTE[0], PALETTE[1]]


def test_ticks_are_where_their_labels_say():
    numbers = [2e8, 7e8, 1.1e9]
    results = {"a": Arm("a", np.arange(3), loss=np.array(numbers)[:, None])}
    (axes,) = curves("loss", log_values=True, log_steps=False)(results).axes
    figure = axes.figure
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = {
        tick.get_text(): place
        for tick, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= place <= high and tick.get_text()
    }
    assert len(shown) >= 2
    for text, place in shown.items():
        factor, _, power = text.strip("$").rpartition("10^{")
        times = float(factor.removesuffix(r" \times ") or 1)
        np.testing.assert_allclose(times * 10.0 ** int(power[:-1]), place)


def test_palette_is_safe_for_color_blind_readers():
    # Simulation of Machado, Oliveira and Fernandes 2009, severity 1, on linear sRGB.
    views = [
        [1, 0, 0, 0, 1, 0, 0, 0, 1],
        [0.152, 1.053, -0.205, 0.115, 0.786, 0.099, -0.004, -0.048, 1.052],
        [0.367, 0.861, -0.228, 0.280, 0.673, 0.047, -0.012, 0.043, 0.969],
        [1.256, -0.077, -0.179, -0.078, 0.931, 0.148, 0.005, 0.691, 0.304],
    ]
    to_xyz = np.array(
        [[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]]
    )
    code = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE]) / 255
    rgb = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    for view in np.reshape(views, (4, 3, 3)):
        xyz = np.clip(rgb @ view.T, 0, 1) @ to_xyz.T / to_xyz.sum(1)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = f @ np.array([[0, 500, 0], [116, -500, 200], [0, 0, -200]])
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
        assert distances[np.triu_indices(8, 1)].min() > 15.9


def test_seeds_are_thin_and_the_median_ends_with_the_first_seed():
    values = np.arange(24.0).reshape(8, 3) ** 2
    values[5:, 1] = np.nan
    (axes,) = curves("loss")(one(values)).axes
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    assert len(thin) == 3
    for line, seed in zip(thin, values.T, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), seed)
    (thick,) = (line for line in axes.lines if line.get_linewidth() == 1.8)
    np.testing.assert_array_equal(thick.get_ydata()[:5], np.median(values[:5], axis=1))
    assert np.isnan(thick.get_ydata()[5:]).all()
    (dot,) = (line for line in axes.lines if line.get_marker() == ".")
    assert (dot.get_xdata(), dot.get_ydata()) == ([30], [values[4, 1]])


def test_one_seed_is_one_line():
    (axes,) = curves("loss")(one(np.arange(8))).axes
    assert len(axes.lines) == 1


def test_points_that_were_not_logged_leave_no_gap():
    (axes,) = curves("loss")(one([0, np.nan, 2, np.nan, 4, np.nan, 6, 7])).axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 3, 30, 300, 1000])
    np.testing.assert_array_equal(line.get_ydata(), [0, 2, 4, 6, 7])


def test_a_single_point_is_visible():
    figure = curves("loss", log_values=True)(one([0.5], steps=[1000]))
    rendered(figure)
    assert [line.get_marker() for line in figure.axes[0].lines][-1] == "."


def test_zeros_stay_on_a_log_axis():
    figure = curves("loss", log_values=True)(one([1, 0.1, 1e-3, 4e-7, 1e-5, 0, 0, 0]))
    rendered(figure)
    (axes,) = figure.axes
    bottom, top = axes.transData.transform([[1, axes.get_ylim()[0]], [1, 1]])[:, 1]
    zero, low = axes.transData.transform([[1, 0], [1, 4e-7]])[:, 1]
    assert bottom < zero < low - 10 < top  # apart by more than a few pixels
    assert "floor" in axes.get_ylabel()
    labels = dict(zip(tick_labels(axes.yaxis), axes.yaxis.get_ticklocs(), strict=True))
    assert labels["0"] == 0
    assert labels["$10^{-7}$"] == 1e-7
    assert "$10^{0}$" not in labels or labels["$10^{0}$"] == 1
    np.testing.assert_array_equal(axes.lines[0].get_ydata()[-3:], 0)


def test_negative_values_stay_on_a_log_axis():
    figure = curves("loss", log_values=True)(one([1, 0.1, 1e-3, -1e-6, 0, 1e-6, 0, 1]))
    rendered(figure)
    (axes,) = figure.axes
    assert axes.get_ylim()[0] < -1e-6
    assert "$-10^{-6}$" in tick_labels(axes.yaxis)
    assert "symmetric" in axes.get_ylabel()


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        np.zeros(8),
        np.full(8, 5.0),
        np.full(8, -5.0),
        np.full(8, 5e-324),
        [1, 1e300, 1e-300, 0, 1e-310, -1e300, 1, 1],
        [1, np.inf, 1, 1, -np.inf, 1, 1, 1],
        np.full(8, np.inf),
        np.full(8, np.nan),
        [np.nan, np.nan, 1, np.nan, np.nan, np.nan, np.nan, np.nan],
        [[1, np.nan], [np.nan, 1], [np.inf, 1], [0, 0], [0, 0], [1, 1], [1, 1], [1, 1]],
    ],
    ids=str,
)
def test_any_values_can_be_drawn(values, log, tmp_path):
    save(curves("loss", log_values=log)(one(values)), tmp_path / "a.png")


@pytest.mark.parametrize("steps", [STEPS, STEPS + 1, np.zeros(8, int), STEPS + 9000])
@pytest.mark.parametrize("log", [True, False])
def test_all_steps_are_on_the_axis(steps, log):
    figure = curves("loss", log_steps=log)(one(np.ones(8), steps))
    rendered(figure)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert low <= steps.min() <= steps.max() <= high
    if log and steps.max():
        assert axes.get_xscale() == ("log" if steps.min() else "symlog")
    assert len(tick_labels(axes.xaxis)) >= 2


def test_what_was_not_logged_is_said():
    for drawing in (curves("nothing"), small_multiples("nothing")):
        for results in (study(3), {}):
            figure = drawing(results)
            rendered(figure)
            (axes,) = figure.axes
            assert [text.get_text() for text in axes.texts] == ["not logged"]
            assert axes.get_legend() is None
            assert figure.get_supxlabel() == ""


@pytest.mark.sampled
@pytest.mark.parametrize("arms", [1, 2, 5, 6, 7, 13, 16])
def test_small_multiples(arms):
    figure = small_multiples("test/accuracy")(study(arms))
    rendered(figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"arm number {i}, with a name" for i in range(arms)]
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}) == 1
    figure = small_multiples("test/accuracy", columns=1)(study(arms))
    assert len({axes.get_position().x0 for axes in figure.axes}) == 1


def test_senseless_grids():
    for rows in ([], [[]], [[LOSS], []]):
        with pytest.raises(ValueError, match="rows is empty"):
            panels(rows)
    with pytest.raises(ValueError, match="names is empty"):
        curves()


def test_save(tmp_path, monkeypatch):
    path = tmp_path / "figures" / "a.png"
    figure = curves("test/accuracy")(study(2))
    save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    before = path.read_bytes()
    save(curves("test/accuracy")(study(2)), path)
    assert path.read_bytes() == before  # same results, same file

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(MemoryError):
        save(figure, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_global_state():
    before = dict(matplotlib.rcParams)
    curves("test/accuracy")(study(2))
    assert dict(matplotlib.rcParams) == before  # imports: see test_maps.py
