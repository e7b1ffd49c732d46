"""Figures of a study: functions from the results of all arms to one figure.

One look for all of them. An arm keeps its color in every figure of a study: it goes by
the arm's place in the results. Thin lines are seeds and the thick one is their median,
which ends where the first seed ends: the median of the survivors is another quantity.
"""

import dataclasses
import io
import math
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from logitlab.train.files import write_file

Results = Mapping[str, Any]
Drawing = Callable[[Results], Any]  # returns a matplotlib.figure.Figure

# Okabe and Ito's colors, with wine for yellow, which has too little contrast on white:
# any two stay 16 apart in CIELAB for people who lack one kind of cones.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7",
    "#E69F00", "#56B4E9", "#882255", "#000000",
)  # fmt: skip

# Each round through the palette has its own dashes, for a metric and for the one that
# is drawn beside it, and its own marker: no two arms look alike, nor do the metrics.
_ROUNDS = (
    ("-", (0, (3.2, 1.6)), ""),
    ((0, (7, 1.5, 1.2, 1.5)), (0, (1.2, 1.4)), "o"),
    ((0, (10, 1.5)), (0, (1.2, 2.6)), "s"),
    ((0, (7, 1.5, 1.2, 1.5, 1.2, 1.5)), (0, (3.2, 1.4, 1.2, 1.4)), "^"),
)

_PANEL_SIZE, _SMALL_PANEL_SIZE, _MIN_WIDTH = (3.1, 2.2), (2.3, 1.6), 5.6  # inches
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
    """Rows of panels, which need not be of the same length, over one legend.

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
        styles = {
            arm: _style(place, place // len(PALETTE))
            for place, arm in enumerate(results)
        }
        drawn, ended = [], False
        with matplotlib.rc_context(_LOOK):
            figure = _figure(_PANEL_SIZE, max(map(len, rows)), len(rows), title)
            grid = figure.add_gridspec(len(rows), width)
            for i, row in enumerate(rows):
                span = width // len(row)
                for j, panel in enumerate(row):
                    axes = figure.add_subplot(grid[i, j * span : (j + 1) * span])
                    traces = _traces(results, arms, panel)
                    drawn += traces
                    ended |= _paint(axes, traces, traces, styles)
                    _scale(axes, "x", [t.steps for t in traces], log_steps)
                    note = _scale(axes, "y", [t.values for t in traces], panel.log)
                    axes.set_ylabel(_wrap(_value_label(panel), 28) + note)
                    if i == len(rows) - 1:
                        axes.set_xlabel(across)
            figure.align_ylabels()
            entries = _arm_entries(results, styles, drawn)
            entries += _pair_entries([p for row in rows for p in row], styles, drawn)
            _add_legend(figure, entries, _notes(drawn, ended))
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
        styles = {arm: _style(places.index(what), 0) for arm, what in meant.items()}
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
                    axes.set_title(_wrap(results[names[place]].label, 30))
            _scale(grid[0, 0], "x", [t.steps for t in traces], log_steps)
            note = _scale(grid[0, 0], "y", [t.values for t in traces], log_values)
            for axes in grid[:, 0]:
                axes.set_ylabel(_wrap(_value_label(panel), 20) + note)
            entries = _pair_entries([panel], styles, traces)
            _add_legend(figure, entries, _notes(traces, ended))
        return figure

    return draw


def save(figure: Any, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_file(path, buffer.getvalue())


class _Style(NamedTuple):
    """How an arm looks: for a metric, and for the one drawn beside it."""

    color: str
    line: Any
    beside: Any
    marker: str


class _Trace(NamedTuple):
    """One metric of one arm, where it was logged."""

    arm: str
    beside: bool
    steps: np.ndarray  # (points,)
    values: np.ndarray  # (points, seeds)


def _style(place: int, turn: int) -> _Style:
    return _Style(PALETTE[place % len(PALETTE)], *_ROUNDS[turn % len(_ROUNDS)])


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
        style = styles[trace.arm]
        line = style.beside if trace.beside else style.line
        look = dict(color=style.color, linestyle=line)
        several = trace.values.shape[1] > 1
        if several:
            thin = dict(linewidth=0.7, alpha=0.4, zorder=2)
            axes.plot(trace.steps, trace.values, **look, **thin)
        median = np.median(trace.values, axis=1)  # NaN as soon as one seed has ended
        # The first arm, often the baseline, stays on top of the later ones.
        thick = dict(linewidth=_width(trace.beside), zorder=3 + 0.5 / (1 + order))
        axes.plot(trace.steps, median, **look, **thick, **_marks(style), markevery=0.2)
        for point, seed in _ends(trace, peers):
            end = trace.steps[point], trace.values[point, seed]
            size = 4 if several else 7
            axes.plot(*end, ".", color=style.color, markersize=size, zorder=4)
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
        _, height = _extent(figure, figure.suptitle(_wrap(title, int(11 * width))))
        figure.set_figheight(figure.get_figheight() + height)
    return figure


def _arm_entries(
    results: Results, styles: Mapping[str, _Style], traces: Sequence[_Trace]
) -> list[tuple]:
    """(handle, label) for each arm that was drawn."""
    from matplotlib.lines import Line2D

    entries = []
    for arm in dict.fromkeys(trace.arm for trace in traces):
        style = styles[arm]
        look = dict(color=style.color, linestyle=style.line, linewidth=_width(False))
        line = Line2D([], [], **look, **_marks(style))
        entries.append((line, _wrap(results[arm].label, 40)))
    return entries


def _pair_entries(
    drawn: Sequence[Panel], styles: Mapping[str, _Style], traces: Sequence[_Trace]
) -> list[tuple]:
    """(handle, label) for the two metrics of panels that have two."""
    from matplotlib.lines import Line2D

    entries = []
    for beside in (False, True):
        metrics = [
            panel.also if beside else panel.name for panel in drawn if panel.also
        ]
        words = ", ".join(dict.fromkeys(_words(metric) for metric in metrics))
        used = [styles[trace.arm] for trace in traces]
        dashes = dict.fromkeys(s.beside if beside else s.line for s in used)
        look = dict(color=_GRAY, linewidth=_width(beside))
        lines = tuple(Line2D([], [], linestyle=dash, **look) for dash in dashes)
        if words and lines:
            entries.append((lines, _wrap(words, 40)))
    return entries


def _notes(traces: Sequence[_Trace], ended: bool) -> str:
    notes = []
    if any(trace.values.shape[1] > 1 for trace in traces):
        notes.append("thin: each seed, thick: the median")
    if ended:
        notes.append("dot: a run ended there")
    return "; ".join(notes)


def _add_legend(figure: Any, entries: Sequence[tuple], notes: str) -> None:
    """Puts all entries below the panels, for which the figure grows."""
    from matplotlib.legend_handler import HandlerTuple

    if not entries and not notes:
        return
    handles, labels = [handle for handle, _ in entries], [label for _, label in entries]
    several = any(isinstance(h, tuple) and len(h) > 1 for h in handles)
    look = dict(
        loc="outside lower center",
        frameon=False,
        handlelength=4.4 if several else 3.2,
        columnspacing=1.6,
        title=notes or None,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.6)},
    )
    for rows in range(1, max(2, len(entries) + 1)):  # as few as fit the width
        columns = max(1, -(-len(entries) // rows))
        legend = figure.legend(handles, labels, ncols=columns, **look)
        width, height = _extent(figure, legend)
        if width <= figure.get_figwidth() - 0.2 or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + height)


def _extent(figure: Any, artist: Any) -> tuple[float, float]:
    """Width and height of an artist, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    box = artist.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi


def _value_label(panel: Panel) -> str:
    if panel.label is not None:
        return panel.label
    ends = {name.rpartition("/")[2] for name in (panel.name, panel.also) if name}
    shared = panel.also is not None and len(ends) == 1
    return _words(ends.pop() if shared else panel.name)


def _words(name: str) -> str:
    return name.replace("/", " ").replace("_", " ")


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, max(8, width))
