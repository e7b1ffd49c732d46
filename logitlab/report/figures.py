"""Figures of a study: functions from the results of all arms to one figure.

One look for all of them. An arm keeps its color in every figure of a study: it goes by
the arm's place in the results. More arms than a legend holds are drawn in groups, one
below the other, with the same axes. Thin lines are seeds and the thick one is their
median, which ends where the first seed ends: the median of the survivors is another
quantity.
"""

import collections
import dataclasses
import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from logitlab.report.legends import add_legends, extent, split, wrap
from logitlab.train.files import write_file

Results = Mapping[str, Any]
Drawing = Callable[[Results], Any]  # returns a matplotlib.figure.Figure

# Okabe and Ito's colors, with wine for yellow, which has too little contrast on white:
# any two stay 16 apart in CIELAB for people who lack one kind of cones.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7",
    "#E69F00", "#56B4E9", "#882255", "#000000",
)  # fmt: skip

# Arms of one color in the same panel differ by dashes, for a metric and for the one
# that is drawn beside it, and by markers. The words are for the notes.
_ROUNDS = (
    ("-", (0, (3.2, 1.6)), "", "solid", "dashed"),
    ((0, (7, 1.5, 1.2, 1.5)), (0, (1.2, 1.4)), "o", "dash-dotted", "dotted"),
    ((0, (10, 1.5)), (0, (1.2, 2.6)), "s", "long-dashed", "wide-dotted"),
    (
        (0, (7, 1.5, 1.2, 1.5, 1.2, 1.5)),
        (0, (3.2, 1.4, 1.2, 1.4)),
        "^",
        "dash-dot-dotted",
        "short-dash-dotted",
    ),
)

_PANEL_SIZE, _SMALL_PANEL_SIZE, _MIN_WIDTH = (3.1, 2.2), (2.3, 1.6), 4.4  # inches
_GRAY = "#555555"
_TINY = 1e-300  # numbers below have no power of ten to be drawn at
_LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "font.size": 9,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8,
    "lines.markersize": 4,
    "lines.scale_dashes": False,  # one pattern for thin and thick lines
    "text.usetex": False,
    "xtick.color": "#888888",
    "xtick.labelcolor": "#222222",
    "xtick.labelsize": 8,
    "ytick.color": "#888888",
    "ytick.labelcolor": "#222222",
    "ytick.labelsize": 8,
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One metric of all arms against the steps.

    Attributes:
      name: the metric, ``"test/accuracy"``.
      label: of the value axis; made from the name if not given.
      log: whether values are on a log axis; zeros stay visible, on its floor.
      also: a second metric, dashed.
    """

    name: str
    label: str | None = None
    log: bool = False
    also: str | None = None


def curves(
    *names: str,
    title: str | None = None,
    log_steps: bool = True,
    log_values: bool = False,
    arms: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Drawing:
    """One panel per metric, side by side, with all arms in each.

    Args:
      names: the metrics.
      title: of the figure.
      log_steps: whether steps are on a log axis; step 0 stays on it.
      log_values: whether values are; zeros stay visible, on the floor.
      arms: the arms to draw, all of them by default; one without results is left out.
      labels: metric -> label of its axis.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``.

    Raises:
      ValueError: there are no names.
    """
    if not names:
        raise ValueError("names is empty, expected at least one metric")
    labels = labels or {}
    row = [Panel(name, labels.get(name), log_values) for name in names]
    return panels([row], title=title, log_steps=log_steps, arms=arms)


def panels(
    rows: Sequence[Sequence[Panel]],
    *,
    title: str | None = None,
    log_steps: bool = True,
    arms: Sequence[str] | None = None,
    across: str = "step",
) -> Drawing:
    """Rows of panels, which need not be of the same length, beside one legend.

    More than six arms are drawn in groups: all rows again for each, with its legend.

    Args:
      rows: the panels, row by row.
      title: of the figure.
      log_steps: whether steps are on a log axis; step 0 stays on it.
      arms: the arms to draw, all of them by default; one without results is left out.
      across: what the results' steps are, where they are not training steps.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``.

    Raises:
      ValueError: there are no panels, or none in some row.
    """
    if not rows or not all(rows):
        raise ValueError("rows is empty or has an empty row, expected panels in each")

    def draw(results: Results) -> Any:
        import matplotlib

        # A grid on which rows of any lengths come out even: 2 above 3 need 6.
        width = math.lcm(*map(len, rows))
        traces = {p: _traces(results, arms, p) for row in rows for p in row}
        drawn = [trace for each in traces.values() for trace in each]
        shown = {trace.arm for trace in drawn}
        groups = split([arm for arm in results if arm in shown])
        styles = {
            k: v for group in groups for k, v in styles_of(results, group).items()
        }
        legends, first, ended = [], {}, False
        with matplotlib.rc_context(_LOOK):
            down = len(rows) * len(groups)
            figure = _figure(_PANEL_SIZE, max(map(len, rows)), down, title)
            grid = figure.add_gridspec(down, width)
            places = itertools.product(enumerate(groups), enumerate(rows))
            for (k, group), (i, row) in places:
                span, line = width // len(row), k * len(rows) + i
                for j, panel in enumerate(row):
                    same = first.get((i, j))
                    place = grid[line, j * span : (j + 1) * span]
                    axes = figure.add_subplot(place, sharex=same, sharey=same)
                    first.setdefault((i, j), axes)
                    every = traces[panel]
                    mine = [trace for trace in every if trace.arm in group]
                    ended |= _paint(axes, mine, every, styles)
                    _scale(axes, "x", [t.steps for t in every], log_steps)
                    note = _scale(axes, "y", [t.values for t in every], panel.log)
                    axes.set_ylabel(wrap(_value_label(panel), 28) + note)
                    if line == down - 1:
                        axes.set_xlabel(across)
                if i == 0:
                    legends.append((axes, _arm_entries(results, styles, group)))
            figure.align_ylabels()
            notes = _notes([p for row in rows for p in row], styles, drawn, ended)
            add_legends(figure, legends, notes)
        return figure

    return draw


def small_multiples(
    name: str | tuple[str, str],
    *,
    title: str | None = None,
    log_steps: bool = True,
    log_values: bool = False,
    arms: Sequence[str] | None = None,
    label: str | None = None,
    columns: int | None = None,
    colors: Mapping[str, str] | None = None,
) -> Drawing:
    """One small panel per arm, all with the same axes: for studies with many arms.

    Args:
      name: the metric, or two: the first is drawn solid and the second dashed,
        ``("test/accuracy", "train/accuracy")``.
      title: of the figure.
      log_steps: whether steps are on a log axis; step 0 stays on it.
      log_values: whether values are; zeros stay visible, on the floor.
      arms: the arms to draw, all of them by default; one without results is left out.
      label: of the value axis; made from the name if not given.
      columns: how many panels stand side by side; 4 or fewer by default.
      colors: arm -> what its color stands for, such as its objective; by default each
        arm has a color of its own.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``.
    """
    name, also = (name, None) if isinstance(name, str) else name
    panel = Panel(name, label, log_values, also)

    def draw(results: Results) -> Any:
        import matplotlib

        traces = _traces(results, arms, panel)
        names = list(dict.fromkeys(trace.arm for trace in traces)) or [None]
        across = columns or (3 if len(names) in (5, 6, 9) else min(4, len(names)))
        down = -(-len(names) // across)
        # Alone in its panel an arm needs its color only, not the dashes of its round.
        meant = {arm: (colors or {}).get(arm, arm) for arm in results}
        places = list(dict.fromkeys(meant.values()))
        styles = {arm: style(places.index(what)) for arm, what in meant.items()}
        ended = False
        with matplotlib.rc_context(_LOOK):
            figure = _figure(_SMALL_PANEL_SIZE, across, down, title)
            grid = figure.subplots(
                down, across, sharex=True, sharey=True, squeeze=False
            )
            for place, axes in enumerate(grid.flat):
                if place >= len(names):
                    axes.remove()
                    continue
                mine = [trace for trace in traces if trace.arm == names[place]]
                ended |= _paint(axes, mine, traces, styles)
                if place >= (down - 1) * across:
                    axes.set_xlabel("step")
                # In the last row there may be no panel below this one.
                axes.tick_params(labelbottom=place + across >= len(names))
                if mine:
                    axes.set_title(wrap(results[names[place]].label, 30))
            _scale(grid[0, 0], "x", [t.steps for t in traces], log_steps)
            note = _scale(grid[0, 0], "y", [t.values for t in traces], log_values)
            for axes in grid[:, 0]:
                axes.set_ylabel(wrap(_value_label(panel), 20) + note)
            add_legends(figure, [], _notes([panel], styles, traces, ended))
        return figure

    return draw


def save(figure: Any, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_file(path, buffer.getvalue())


class _Style(NamedTuple):
    """How an arm looks: for a metric, and for the one drawn beside it; in words too."""

    color: str
    line: Any
    beside: Any
    marker: str
    line_word: str
    beside_word: str


class _Trace(NamedTuple):
    """One metric of one arm, where it was logged."""

    arm: str
    beside: bool
    steps: np.ndarray  # (points,)
    values: np.ndarray  # (points, seeds)


def style(place: int, turn: int = 0) -> _Style:
    """The look of the arm in this place, after ``turn`` others of its color."""
    return _Style(PALETTE[place % len(PALETTE)], *_ROUNDS[turn % len(_ROUNDS)])


def styles_of(names: Iterable[str], group: Sequence[str]) -> dict[str, _Style]:
    """Looks of a group, colored by their places among all names: no two are alike."""
    places = {name: place for place, name in enumerate(names) if name in group}
    turns: collections.Counter[int] = collections.Counter()
    styles = {}
    for name in group:
        color = places[name] % len(PALETTE)
        styles[name] = style(color, turns[color])
        turns[color] += 1
    return styles


def _traces(results: Results, arms: Sequence[str] | None, panel: Panel) -> list[_Trace]:
    traces = []
    for name, arm in results.items():
        if arms is not None and name not in arms:
            continue
        for metric in filter(None, (panel.name, panel.also)):
            if metric not in arm:
                continue
            values = np.asarray(arm[metric], np.float64)
            logged = ~np.isnan(values).all(axis=1)
            if logged.any():
                steps = np.asarray(arm.steps)[logged]
                traces.append(_Trace(name, metric == panel.also, steps, values[logged]))
    return traces


def _ends(trace: _Trace, peers: Sequence[_Trace]) -> list[tuple[int, int]]:
    """(point, seed) of runs that ended before others did, or are a single point."""
    last = max(peer.steps[-1] for peer in peers if peer.beside == trace.beside)
    ends = []
    for seed, values in enumerate(trace.values.T):
        known = np.flatnonzero(~np.isnan(values))
        if known.size and (known.size == 1 or trace.steps[known[-1]] < last):
            ends.append((known[-1], seed))
    return ends


def _paint(
    axes: Any,
    traces: Sequence[_Trace],
    peers: Sequence[_Trace],
    styles: Mapping[str, _Style],
) -> bool:
    """Draws one panel; says if it has dots at runs that end before its ``peers``."""
    if not traces:
        where = dict(ha="center", va="center", transform=axes.transAxes)
        axes.text(0.5, 0.5, "not logged", color=_GRAY, **where)
    ended = False
    for order, trace in enumerate(traces):
        mine = styles[trace.arm]
        line = mine.beside if trace.beside else mine.line
        look = dict(color=mine.color, linestyle=line)
        several = trace.values.shape[1] > 1
        if several:
            thin = dict(linewidth=0.7, alpha=0.4, zorder=2)
            axes.plot(trace.steps, trace.values, **look, **thin)
        median = np.median(trace.values, axis=1)  # NaN as soon as one seed has ended
        # The first arm, often the baseline, stays on top of the later ones.
        thick = dict(linewidth=_width(trace.beside), zorder=3 + 0.5 / (1 + order))
        axes.plot(trace.steps, median, **look, **thick, **_marks(mine), markevery=0.2)
        for point, seed in _ends(trace, peers):
            end = trace.steps[point], trace.values[point, seed]
            size = 4 if several else 7
            axes.plot(*end, ".", color=mine.color, markersize=size, zorder=4)
            ended = True
    return ended


def _width(beside: bool) -> float:
    return 1.2 if beside else 1.8


def _marks(style: _Style) -> dict[str, Any]:
    return dict(marker=style.marker, markerfacecolor="white")


def _scale(axes: Any, which: str, arrays: Sequence[np.ndarray], log: bool) -> str:
    """Sets up one axis of a panel; returns what its label has to add.

    A log axis for numbers that have no logarithm becomes linear below the smallest
    power of ten in the data: an exact zero is drawn where it belongs, not left out.
    """
    from matplotlib import ticker

    axis = getattr(axes, f"{which}axis")
    numbers = np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)])
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        axis.set_ticks([])
        return ""
    sizes = np.abs(numbers[np.abs(numbers) >= _TINY])
    if not log or not sizes.size:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        return ""
    low, high = sizes.min(), sizes.max()
    set_scale = getattr(axes, f"set_{which}scale")
    if numbers.min() >= _TINY:
        set_scale("log")
        if high < 100 * low:  # too few powers of ten to read the axis by
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5), numticks=6))
            axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: number_label(v)))
        else:
            axis.set_major_locator(ticker.LogLocator(numticks=7))
        axis.set_minor_formatter(ticker.NullFormatter())
        return ""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    decades = math.log10(high) - first
    linear = max(0.5, 0.1 * decades)  # room for the part between 0 and the first power
    set_scale("symlog", linthresh=10.0**first, linscale=linear)
    stride = -(-(last - first + 1) // 6)
    powers = [10.0**power for power in range(first, last + 1, stride)]
    below = [-power for power in powers if numbers.min() < 0]
    axis.set_major_locator(ticker.FixedLocator([*below, 0, *powers]))
    axis.set_major_formatter(ticker.FuncFormatter(_power_label))
    axis.set_minor_locator(ticker.NullLocator())
    if below:
        return "\n(symmetric log scale)"
    top = high * 10 ** (0.05 * (decades + linear))
    getattr(axes, f"set_{which}lim")(-0.2 * 10.0**first, top)
    return "\n(log, 0 at the floor)"


def number_label(value: float) -> str:
    r"""A number above 0 for the ticks of a log axis, with a power of ten if that helps.

    >>> from logitlab.report.figures import number_label
    >>> [number_label(value) for value in (0.02, 3000, 1e8, 5e8)]
    ['0.02', '3000', '$10^{8}$', '$5 \\times 10^{8}$']
    """
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    if float(digits) == 1:
        return f"${power}$"
    return rf"${float(digits):g} \times {power}$"


def _power_label(value: float, _: int) -> str:
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    return f"${sign}10^{{{round(math.log10(abs(value)))}}}$"


def _figure(size: tuple[float, float], columns: int, rows: int, title: str | None):
    from matplotlib.figure import Figure

    width = max(_MIN_WIDTH, columns * size[0])
    figure = Figure(figsize=(width, rows * size[1]), layout="constrained")
    if title:
        _, height = extent(figure, figure.suptitle(wrap(title, int(11 * width))))
        figure.set_figheight(figure.get_figheight() + height)
    return figure


def _arm_entries(
    results: Results, styles: Mapping[str, _Style], arms: Sequence[str]
) -> list[tuple]:
    """(handle, label) for each of some arms."""
    from matplotlib.lines import Line2D

    entries = []
    for arm in arms:
        mine = styles[arm]
        look = dict(color=mine.color, linestyle=mine.line, linewidth=_width(False))
        entries.append((Line2D([], [], **look, **_marks(mine)), results[arm].label))
    return entries


def _notes(
    drawn: Sequence[Panel],
    styles: Mapping[str, _Style],
    traces: Sequence[_Trace],
    ended: bool,
) -> str:
    """What lines are: of which metric, where panels have two, of a seed or of all."""
    notes, used = [], [styles[trace.arm] for trace in traces]
    for beside in (False, True):
        metrics = [p.also if beside else p.name for p in drawn if p.also]
        words = ", ".join(dict.fromkeys(_words(metric) for metric in metrics))
        lines = dict.fromkeys(s.beside_word if beside else s.line_word for s in used)
        if words and lines:
            notes.append(f"{' or '.join(lines)}: {words}")
    if any(trace.values.shape[1] > 1 for trace in traces):
        notes.append("thin: each seed, thick: the median")
    if ended:
        notes.append("dot: a run ended there")
    return "; ".join(notes)


def _value_label(panel: Panel) -> str:
    if panel.label is not None:
        return panel.label
    ends = {name.rpartition("/")[2] for name in (panel.name, panel.also) if name}
    shared = panel.also is not None and len(ends) == 1
    return _words(ends.pop() if shared else panel.name)


def _words(name: str) -> str:
    return name.replace("/", " ").replace("_", " ")
