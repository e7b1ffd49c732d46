import dataclasses
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d import proj3d

from logitlab import report
from logitlab.report.figures import PALETTE
from logitlab.report.maps import Map, Sheet, _pieces

BLUE, ORANGE, GREEN = (np.array(to_rgb(color)) for color in PALETTE[:3])
NO_POINTS = dict(points=np.zeros((0, 2)), classes=np.zeros(0, int))


def plane(up=(-1, 1), **fields):
    """Class 1 is as probable as x, which goes from 0 to 1."""
    x = np.linspace(0, 1, 5)
    probs = np.broadcast_to(np.stack([1 - x, x], -1), (4, 5, 2))
    return Map(x, np.linspace(*up, 4), probs, **(NO_POINTS | fields))


def constant(*probs, **fields):
    """The same probabilities everywhere on the unit square."""
    grid = np.broadcast_to(np.array(probs), (2, 2, len(probs)))
    return Map([0, 1], [0, 1], grid, **(NO_POINTS | fields))


def quarters():
    """Class 1 in the upper left, class 0 elsewhere; wider than it is high."""
    x, y = np.linspace(0, 3, 301), np.linspace(0, 1, 101)
    one = ((x < 1.5) & (y[:, None] > 0.5)) * 1.0
    return Map(x, y, np.stack([1 - one, one], -1), **NO_POINTS)


def drawn(*maps, **options):
    """The figure of some maps, called 0, 1, ..."""
    return report.probability_maps(lambda results: results, **options)(
        {str(place): map_ for place, map_ in enumerate(maps)}
    )


def rendered(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255, canvas.get_renderer()


def seen(pixels, axes, x, y):
    """The color of a figure at a place in some axes."""
    column, row = axes.transData.transform((x, y))
    return pixels[int(len(pixels) - row), int(column)]


def image(figure, panel=0):
    (found,) = figure.axes[panel].images
    return np.asarray(found.get_array())


def legend(figure):
    (found,) = filter(None, (axes.get_legend() for axes in figure.axes))
    return found


def words(figure):
    return [text.get_text() for text in legend(figure).get_texts()]


def test_two_classes_meet_in_white():
    colors = image(drawn(plane()))
    np.testing.assert_allclose(colors[0, 0], BLUE)
    np.testing.assert_allclose(colors[-1, -1], ORANGE)
    x = np.linspace(0, 1, colors.shape[1])  # between the 5 points, too
    fade = np.abs(2 * x - 1)[:, None]
    expected = np.where(x[:, None] < 0.5, BLUE, ORANGE) * fade + (1 - fade)
    np.testing.assert_allclose(colors, np.broadcast_to(expected, colors.shape))


@pytest.mark.parametrize(
    ("probs", "color"),
    [
        ((0.5, 0.5), (1, 1, 1)),
        ((0.25, 0.75), (1 + ORANGE) / 2),
        ((0, 0, 1), GREEN),
        ((1 / 3, 1 / 3, 1 / 3), (1, 1, 1)),
        ((0.5, 0.5, 0), 0.75 + 0.25 * (BLUE + ORANGE) / 2),
        ((0.2, 0.2, 0.6), 0.6 + 0.4 * (0.2 * BLUE + 0.2 * ORANGE + 0.6 * GREEN)),
        ((np.nan, np.nan), (0.88, 0.88, 0.88)),
    ],
)
def test_colors(probs, color):
    colors = image(drawn(constant(*probs)))
    np.testing.assert_allclose(colors, np.broadcast_to(color, colors.shape))


def test_colors_are_where_they_belong():
    figure = drawn(quarters(), plane(up=(0, 1)))
    pixels, _ = rendered(figure)
    for x, y, color in [
        (0.3, 0.8, ORANGE),
        (1.45, 0.55, ORANGE),
        (0.3, 0.45, BLUE),
        (1.55, 0.8, BLUE),
        (2.9, 0.2, BLUE),
    ]:
        np.testing.assert_allclose(seen(pixels, figure.axes[0], x, y), color, atol=0.01)
    for x in (0.25, 0.5, 0.75):
        fade, ends = abs(2 * x - 1), BLUE if x < 0.5 else ORANGE
        got = seen(pixels, figure.axes[1], x, 0.4)
        np.testing.assert_allclose(got, 1 - fade * (1 - ends), atol=0.02)
    # The second map ends at 1, and what is beside it is not undecided.
    got = seen(pixels, figure.axes[1], 2, 0.4)
    np.testing.assert_allclose(got, 0.88, atol=0.01)


def test_a_grid_need_not_be_even():
    x = np.array([0, 0.1, 0.2, 1])
    probs = np.broadcast_to(np.stack([1 - x, x], -1), (2, 4, 2))
    uneven = Map(x, [-1, 1], probs, **NO_POINTS)
    np.testing.assert_allclose(image(drawn(uneven)), image(drawn(plane())))


def test_hyperplanes_lie_where_they_should():
    inside = [(1, 2, -1), (1, 0, -0.25), (0, -4, 2), (3, -3, 0), (-1e-9, -1e-9, 1e-9)]
    outside = [(1, 0, 1), (0, 1, -1.5), (1, 1, -3), (0, 0, 1), (np.nan, 1, 0)]
    (axes,) = drawn(plane(up=(0, 1), lines=[*inside, *outside])).axes
    assert len(axes.lines) == len(inside)
    for line, (a, b, c) in zip(axes.lines, inside, strict=True):
        ends = line.get_xydata()
        np.testing.assert_allclose(ends @ [a, b] + c, 0, atol=1e-12)
        for end in ends:  # on the border of the panel, not beyond
            assert np.isclose(end, 0).any() or np.isclose(end, 1).any()
            assert (end > -1e-9).all()
            assert (end < 1 + 1e-9).all()
        assert np.abs(ends[1] - ends[0]).max() > 0.4


def test_hyperplanes_reach_the_border_of_the_panel():
    square = plane(up=(0, 1), lines=[(0, 1, -0.5)])
    figure = drawn(square, quarters())  # the panels go on to 3, the map to 1
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(np.sort(line.get_xdata()), [0, 3])
    assert not figure.axes[1].lines


def test_points_are_darker_than_their_class():
    points, classes = np.array([[0.2, 0.3], [0.6, 0.1], [0.9, 0.9]]), [1, 0, 1]
    figure = drawn(plane(up=(0, 1), points=points, classes=classes))
    (dots,) = figure.axes[0].collections
    np.testing.assert_array_equal(dots.get_offsets(), points)
    expected = 0.6 * np.stack([ORANGE, BLUE, ORANGE])
    np.testing.assert_allclose(dots.get_facecolors()[:, :3], expected)
    np.testing.assert_allclose(dots.get_edgecolors()[:, :3], 1)
    pixels, _ = rendered(figure)
    for (x, y), color in zip(points, expected, strict=True):
        np.testing.assert_allclose(seen(pixels, figure.axes[0], x, y), color, atol=0.05)


def test_legend_names_what_is_there():
    line, thirds = [(1, 1, 0)], constant(0.2, 0.3, 0.5)
    assert words(drawn(plane())) == ["class 0", "class 1"]
    assert words(drawn(plane(lines=line))) == ["class 0", "class 1", "hyperplanes"]
    assert words(drawn(plane(), thirds)) == ["class 0", "class 1", "class 2"]
    figure = drawn(plane())
    colors = [handle.get_color() for handle in legend(figure).legend_handles]
    np.testing.assert_allclose(colors, [BLUE, ORANGE])


def test_panels_have_the_same_equal_axes():
    maps = [plane(up=(0, 3)), plane(up=(-1, 1)), plane(), quarters(), constant(0, 1)]
    figure = drawn(*maps, labels=("a", "b"))
    rendered(figure)
    assert [axes.get_title() for axes in figure.axes] == list("01234")
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "a", "a"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["b", "", "", "b", ""]
    for axes in figure.axes:
        assert (*axes.get_xlim(), *axes.get_ylim()) == (0, 3, -1, 3)
        across, up = axes.transData.transform([1, 1]) - axes.transData.transform([0, 0])
        assert across == pytest.approx(up)
        assert axes.get_aspect() == 1  # in a figure of another size, too
        lines = axes.get_xgridlines() + axes.get_ygridlines()
        assert not any(line.get_visible() for line in lines)
    lefts = {round(axes.get_position().x0, 6) for axes in drawn(*maps, columns=2).axes}
    assert len(lefts) == 2


def test_note_and_title():
    figure = drawn(plane(note="accuracy 0.96"), plane(), title="Two maps")
    _, renderer = rendered(figure)
    notes = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in notes] == ["accuracy 0.96"]
    box, panel = notes[0].get_window_extent(renderer), figure.axes[0].bbox
    assert panel.x0 < box.x0 < box.x1 < panel.x1
    assert panel.y0 < box.y0 < box.y1 < panel.y1
    assert figure.get_suptitle() == "Two maps"


def boxes_of(figure):
    _, renderer = rendered(figure)
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    return boxes + [text.get_window_extent(renderer) for text in figure.texts]


def check_boxes(boxes, figure):
    for a, b in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, along) <= 0.5  # pixels
    for box in boxes:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


LONG = "WIDE WORDS, and a title that is much too long for one line of a small panel"


# Few and many panels, flat and tall ones, with and without titles; then all pairs.
LAYOUTS = [(1, (0, 0.2), ""), (3, (0, 1), LONG * 3), (8, (-1.5, 1.5), "")]
LAYOUTS += [(8, (0, 0.2), LONG * 3)]
LAYOUTS += [
    pytest.param(*layout, marks=pytest.mark.slow)
    for layout in itertools.product(
        (1, 3, 8), ((0, 0.2), (0, 1), (-1.5, 1.5)), ("", LONG * 3)
    )
    if layout not in LAYOUTS
]


@pytest.mark.sampled
@pytest.mark.parametrize(("panels", "up", "title"), LAYOUTS)
def test_nothing_overlaps_or_is_clipped(panels, up, title):
    title = title or None
    note = "accuracy 0.96" if title is None else LONG[:40]
    maps = {
        f"{place} {title and LONG}": plane(up=up, lines=[(1, 1, -1)], note=note)
        for place in range(panels)
    }
    figure = report.probability_maps(lambda _: maps, title=title)({})
    check_boxes(boxes_of(figure), figure)
    for axes in figure.axes:
        box, wanted = axes.bbox, up[1] - up[0]
        assert max(box.width, box.height) > 150
        assert box.height / box.width == pytest.approx(wanted)
    if title is None and wanted >= 1:  # the height is not wasted
        rows = len({round(axes.bbox.y0) for axes in figure.axes})
        assert rows * box.height > figure.bbox.height - 60 - 55 * rows


def test_maps_are_made_from_results():
    def maps(results):
        return {name: constant(*probs) for name, probs in results.items()}

    draw = report.probability_maps(maps)
    figure = draw({"first": (1, 0), "other": (0, 0, 1)})
    assert [axes.get_title() for axes in figure.axes] == ["first", "other"]
    np.testing.assert_allclose(image(figure)[0, 0], BLUE)
    np.testing.assert_allclose(image(figure, 1)[0, 0], GREEN)
    (axes,) = draw({}).axes
    assert [text.get_text() for text in axes.texts] == ["not run"]


GOOD = dict(
    across=[0, 1, 2],
    up=[0, 1],
    probs=np.full((2, 3, 2), 0.5),
    points=np.zeros((4, 2)),
    classes=[0, 1, 0, 1],
    lines=np.ones((1, 3)),
)
SHEET = dict(
    across=[0, 1, 2],
    up=[0, 1],
    above=np.ones((2, 3)),
    below=np.zeros((2, 3)),
    touches=(0, 0, 1),
)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(across=[[0, 1, 2]]), r"across has shape \(1, 3\), expected one axis"),
        (dict(up=[0]), r"up has shape \(1,\), expected one axis of 2 or more"),
        (dict(across=[0, 2, 1]), "across is not finite and increasing"),
        (dict(up=[0, np.nan]), "up is not finite and increasing"),
        (dict(probs=np.ones((3, 2, 2))), r"\(3, 2, 2\), expected \(2, 3, C\)"),
        (dict(probs=np.ones((2, 3))), r"probs has shape \(2, 3\), expected"),
        (dict(probs=np.ones((2, 3, 1))), "probs has 1 classes, expected 2 to 8"),
        (dict(probs=np.ones((2, 3, 9)) / 9), "probs has 9 classes"),
        (dict(probs=np.ones((2, 3, 2))), "probs is at least 1 and sums to 2 to 2"),
        (dict(probs=np.full((2, 3, 2), [-1, 2])), "probs is at least -1"),
        (dict(points=np.zeros((4, 3))), r"points has shape \(4, 3\), expected \(n, 2"),
        (dict(points=np.zeros(2)), r"points has shape \(2,\), expected \(n, 2\)"),
        (dict(lines=np.ones(3)), r"lines has shape \(3,\), expected \(n, 3\)"),
        (dict(classes=[0, 1]), r"classes has shape \(2,\), expected \(4,\)"),
        (dict(classes=np.zeros(4)), "classes has dtype float64, expected ints"),
        (dict(classes=[0, 1, 2, -1]), r"classes outside \[0, 2\): \[ 2 -1\]"),
    ],
)
def test_wrong_maps_are_named(fields, message):
    Map(**GOOD)
    with pytest.raises(ValueError, match=message):
        Map(**(GOOD | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(up=[1, 0]), "up is not finite and increasing"),
        (dict(above=np.ones((3, 2))), r"above has shape \(3, 2\), expected \(2, 3\)"),
        (dict(below=np.ones(3)), r"below has shape \(3,\), expected \(2, 3\)"),
        (dict(above=np.full((2, 3), np.nan)), "above has no finite value"),
        (dict(touches=(0, 0)), r"touches has shape \(2,\), expected \(3,\)"),
        (dict(names="ab"), "names is 'ab', expected two names"),
        (dict(names=("a",)), "names is .* expected two names"),
    ],
)
def test_wrong_sheets_are_named(fields, message):
    Sheet(**SHEET)
    with pytest.raises(ValueError, match=message):
        Sheet(**(SHEET | fields))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="columns is 0, expected at least 1"):
        report.probability_maps(lambda results: {}, columns=0)
    with pytest.raises(ValueError, match="sheets is empty"):
        report.surfaces({})


def test_records_are_frozen():
    for record in (Map(**GOOD), Sheet(**SHEET)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.up = 0


def bowl(a=0.0, depth=1.0, **fields):
    """x² + y², and below it a bound that touches at (a, 0)."""
    x, y = np.linspace(-1, 1, 21), np.linspace(-2, 2, 11)
    above = x**2 + y[:, None] ** 2
    below = above - depth * ((x - a) ** 2 + y[:, None] ** 2)
    return Sheet(x, y, above, below, (a, 0, a**2), **fields)


def at(figure, axes, *point):
    """The pixel of a point in space, (row, column)."""
    flat = proj3d.proj_transform(*point, axes.get_proj())[:2]
    column, row = axes.transData.transform(flat)
    return int(figure.bbox.height - row), int(column)


def test_function_bound_and_touch_are_seen():
    slope = np.array([[1.0, 0], [1, 0]])
    sheet = Sheet([0, 1], [0, 1], slope, slope - 0.15, (0.5, 0.5, 0.5))
    figure = report.surfaces({"slope": sheet})({})
    pixels, _ = rendered(figure)
    (axes,) = figure.axes
    np.testing.assert_allclose(pixels[at(figure, axes, 0.5, 0.5, 0.5)], 0, atol=0.01)

    def tint(*point):
        """Positive where it is more of the bound's color than of the function's."""
        row, column = at(figure, axes, *point)
        around = pixels[row - 2 : row + 3, column - 2 : column + 3]
        return np.median(around[..., 0] - around[..., 2])

    bound, function = tint(0.5, 0.03, 0.35), tint(0.1, 0.97, 0.9)  # in front, behind
    both = tint(0.2, 0.5, 0.65)  # the bound shines through the function
    assert function < -0.1 < 0.05 < both < bound - 0.2


def test_the_bound_is_cut_at_the_floor():
    figure = report.surfaces({"a": bowl(), "b": bowl(depth=9)})({})
    for axes in figure.axes:  # 0.6 of the range 5 below the minimum 0
        assert axes.get_zlim() == pytest.approx((-3, 5))
        assert axes.get_xlim() == (-1, 1)
        assert axes.get_ylim() == (-2, 2)
    shallow = report.surfaces({"a": bowl(depth=1.2)})({}).axes[0]
    assert shallow.get_zlim() == pytest.approx((-1, 5))  # all of it fits
    even = dataclasses.replace(bowl(), above=np.full((11, 21), 2.0))
    assert report.surfaces({"a": even})({}).axes[0].get_zlim() == (0, 2)


def test_pieces_are_cut_where_the_surface_meets_the_floor():
    across, up = np.linspace(0, 3, 4), np.array([0.0, 1.0])
    slope = np.broadcast_to(across - 1.5, (2, 4))
    cut, whole = _pieces(across, up, slope, 0.0)
    assert len(_pieces(across, up, slope, -9.0)) == 3
    np.testing.assert_allclose(cut[:, 2].min(), 0)
    np.testing.assert_allclose(cut[:, 0].min(), 1.5)
    np.testing.assert_allclose(np.sort(whole[:, 0]), [2, 2, 3, 3])
    np.testing.assert_allclose(cut[:, 0] - 1.5, cut[:, 2])  # still on the surface
    assert len(_pieces(across, up, slope * 0, 0.0)) == 3  # on the floor, not below
    hole = np.where(across == 0, np.nan, slope)
    assert len(_pieces(across, up, hole, -9.0)) == 2


def test_the_touch_is_a_dot():
    figure = report.surfaces({"here": bowl(0.5), "there": bowl(-0.5)})({})
    for axes, a in zip(figure.axes, (0.5, -0.5), strict=True):
        (dot,) = axes.lines
        np.testing.assert_allclose(np.ravel(dot.get_data_3d()), [a, 0, a**2])
        (surface,) = axes.collections
        assert dot.get_zorder() > surface.get_zorder()
        assert not axes.computed_zorder
    assert [axes.get_title() for axes in figure.axes] == ["here", "there"]


def test_surfaces_have_names():
    figure = report.surfaces({"a": bowl()}, title="T", labels=("u", "v", "f"))({})
    assert words(figure) == ["function", "lower bound", "where they meet"]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == tuple("uvf")
    assert figure.get_suptitle() == "T"
    named = {name: bowl(names=("loss", name)) for name in ("first", "second")}
    assert words(report.surfaces(named)({}))[:2] == ["loss", "first, second"]


SPACES = [(1, 1e6), (5, 1e-4)]
SPACES += [
    pytest.param(*space, marks=pytest.mark.slow)
    for space in itertools.product((1, 2, 5), (1e-4, 1e6))
    if space not in SPACES
]


@pytest.mark.sampled
@pytest.mark.parametrize(("panels", "scale"), SPACES)
def test_nothing_in_space_overlaps_or_is_clipped(panels, scale):
    x = np.linspace(-1, 1, 9)
    above = scale * (x**2 + x[:, None] ** 2)
    sheet = Sheet(x, x, above, above * 0, (0, 0, 0))
    sheets = {f"{place} {LONG}": sheet for place in range(panels)}
    figure = report.surfaces(sheets, title=LONG, labels=("x", "y", "F(x, y)"))({})
    _, renderer = rendered(figure)
    check_boxes(boxes_of(figure), figure)
    for axes in figure.axes:
        labels = [axis.label for axis in (axes.xaxis, axes.yaxis, axes.zaxis)]
        for text in (axes.title, *labels):
            box = text.get_window_extent(renderer)
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            low, high = np.sort(axis.get_view_interval())
            ticks = [place for place in axis.get_ticklocs() if low <= place <= high]
            assert 2 <= len(ticks) <= 5
            # At an end a label would collide with the one of another axis.
            assert low < ticks[0] < ticks[-1] < high


def test_bounds_may_be_infinite():
    sheet = bowl()
    below = np.where(sheet.above > 3, -np.inf, sheet.below)
    rendered(report.surfaces({"a": dataclasses.replace(sheet, below=below)})({}))


def test_flat_surfaces_that_are_the_same():
    same = dataclasses.replace(Sheet(**SHEET), below=np.ones((2, 3)))
    figure = report.surfaces({"a": same})({})
    rendered(figure)
    assert figure.axes[0].get_zlim() == (0.5, 1.5)


def test_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    for number, figure in enumerate(
        (drawn(plane()), report.surfaces({"": bowl()})({}))
    ):
        report.save(figure, tmp_path / f"{number}.png")
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys, logitlab.report as report; assert 'matplotlib' not in sys.modules;"
        "x = [0, 1]; z = [[1, 1], [1, 1]];"
        "sheet = report.maps.Sheet(x, x, z, z, (0, 0, 1));"
        "map_ = report.maps.Map(x, x, [[[1, 0]] * 2] * 2, [x], [0]);"
        "report.curves('a')({});"
        "report.surfaces({'a': sheet})({});"
        "report.probability_maps(lambda results: {'a': map_})({});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
