"""Figures that compare final numbers between arms, showing every seed."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from logitlab.report import figures
from logitlab.report.legends import ENTRIES, add_legends, split

__all__ = ["differences", "frontier", "intervals", "ranking", "trends"]

_SIDES = ((8, 8), (-8, -8), (-8, 8), (8, -8))  # of a point, where its mark stands


def intervals(
    series: Mapping[str, Sequence[str]],
    ticks: Sequence[str],
    metric: str,
    *,
    label: str | None = None,
    across: str = "",
    title: str | None = None,
    log: bool = False,
    dots: str = "seeds",
    joined: bool = False,
) -> figures.Drawing:
    """Final numbers with a 95 % interval of the mean, one group for each tick.

    Args:
      series: name in the legend -> an arm for each tick; an arm that was not run, or
        an empty name, leaves its place free.
      ticks: what the places along the horizontal axis are called.
      metric: whose final number is drawn, a dot for each seed.
      label: of the value axis; made from the metric if not given.
      across: what the ticks are, the label of the horizontal axis.
      title: of the figure.
      log: whether the value axis is logarithmic.
      dots: what the numbers of an arm come from.
      joined: whether a line goes through the means of a series, for ticks that are
        values of a quantity.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``. The interval is
      Student's, over the seeds; one and two seeds have none.

    Raises:
      ValueError: there is no series, or one that has not an arm for each tick.
    """
    if not series:
        raise ValueError("series is empty, expected at least one")
    for name, arms in series.items():
        if len(arms) != len(ticks):
            raise ValueError(
                f"series {name!r} has {len(arms)} arms for {len(ticks)} ticks"
            )

    def draw(results: figures.Results) -> Any:
        import matplotlib

        with matplotlib.rc_context(figures._LOOK):
            groups = split(list(series))
            width = max(1, len(ticks) * len(groups[0]) / 12)
            figure, grid = _rows((4.8 * width, 3.2), len(groups), title)
            legends, drawn = [], []
            for axes, group in zip(grid, groups, strict=True):
                entries, spread = [], (0.3 if joined else 0.7) / len(group)
                for place, (name, style) in enumerate(_styles(series, group)):
                    shift = spread * (place - (len(group) - 1) / 2)
                    numbers = {
                        tick + shift: results[arm].final(metric)
                        for tick, arm in enumerate(series[name])
                        if arm in results
                    }
                    means = _draw_means(axes, numbers, style.color, spread / 4)
                    drawn += numbers.values()
                    line = style.line if joined else ""
                    look = dict(color=style.color, linestyle=line)
                    if joined and means:
                        axes.plot(*zip(*means, strict=True), **look)
                    entries.append((axes.plot([], [], marker="o", **look)[0], name))
                axes.grid(False, axis="x")
                axes.set_ylabel(figures._words(metric) if label is None else label)
                legends.append((axes, entries if len(series) > 1 else ()))
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlim(-0.6, len(ticks) - 0.4)
            axes.set_xlabel(across)
            if log:
                axes.set_yscale("log")
            add_legends(figure, legends, _note(drawn, dots))
        return figure

    return draw


def _rows(size: tuple[float, float], many: int, title: str | None) -> tuple[Any, Any]:
    """A figure, and panels below each other that have the same axes."""
    figure = figures._figure(size, 1, many, title)
    grid = figure.subplots(many, sharex=True, sharey=True, squeeze=False)
    return figure, grid[:, 0]


def _styles(names: Iterable[str], group: Sequence[str]) -> Iterable[tuple[str, Any]]:
    return figures.styles_of(names, group).items()


def _note(drawn: Iterable[np.ndarray], dots: str) -> str:
    """What bars, if there are any, and dots are."""
    bars = any(mean_interval(np.atleast_1d(values))[1] > 0 for values in drawn)
    return f"{'bars: 95 % interval of the mean; ' if bars else ''}dots: {dots}"


def _draw_means(axes, numbers, color, aside):
    """Draws means with intervals, and the numbers beside them; returns (x, mean)s."""
    look = dict(color=color, marker="o", markersize=5, capsize=3)
    means = []
    for x, values in numbers.items():
        values = np.atleast_1d(values).astype(float)
        axes.plot(
            np.full(values.size, x) + aside,
            values,
            ".",
            color=color,
            alpha=0.35,
            markersize=4,
        )
        mean, half = mean_interval(values)
        axes.errorbar(x, mean, yerr=half or None, **look)
        means.append((x, mean))
    return means


def differences(
    metric: str,
    baseline: str,
    *,
    arms: Sequence[str] | None = None,
    scale: float = 1.0,
    label: str | None = None,
    title: str | None = None,
) -> figures.Drawing:
    """How far each arm is ahead of one of them, seed by seed: one row for each arm.

    Args:
      metric: whose final numbers are subtracted, a dot for each seed.
      baseline: the arm that the others are compared with, where 0 is.
      arms: the arms to draw, all by default; those without the metric are left out.
      scale: what differences are multiplied by, 100 for points of a percentage.
      label: of the value axis; made from the metric if not given.
      title: of the figure.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``, in which rows are
      ordered by the mean. Its interval is Student's, of 95 %; beside it stands in how
      many seeds the arm is ahead.
    """

    def draw(results: figures.Results) -> Any:
        import matplotlib

        zero = results[baseline].final(metric)
        ahead = {
            name: scale * (arm.final(metric) - zero)
            for name, arm in results.items()
            if name != baseline and metric in arm and (arms is None or name in arms)
        }
        names = sorted(ahead, key=lambda name: np.nanmean(ahead[name]))
        with matplotlib.rc_context(figures._LOOK):
            size = (6.4, 0.9 + 0.24 * max(2, len(names)))
            figure = figures._figure(size, 1, 1, title)
            axes = figure.subplots()
            axes.axvline(0, color=figures._GRAY, linewidth=1)
            dots = dict(color=figures.PALETTE[0], alpha=0.3, markersize=5)
            bars = dict(color=figures.PALETTE[1], markersize=5, capsize=3, zorder=3)
            for row, name in enumerate(names):
                values = ahead[name]
                axes.plot(values, np.full(values.size, row), ".", **dots)
                mean, half = mean_interval(values)
                axes.errorbar(mean, row, xerr=half or None, marker="o", **bars)
            axes.set_yticks(range(len(names)), [results[name].label for name in names])
            axes.set_ylim(-0.7, len(names) - 0.3)
            axes.grid(False, axis="y")
            words = f"{figures._words(metric)} - {results[baseline].label}"
            axes.set_xlabel(words if label is None else label)
            won = axes.secondary_yaxis("right")
            won.set_yticks(
                range(len(names)),
                [f"{(ahead[n] > 0).sum()}/{ahead[n].size}" for n in names],
            )
            won.set_ylabel("seeds ahead")
            won.tick_params(length=0)
            won.spines["right"].set_visible(False)
            add_legends(figure, [], _note(ahead.values(), "seeds"))
        return figure

    return draw


def ranking(
    metrics: Mapping[str, str],
    *,
    bounds: Mapping[str, float] | None = None,
    title: str | None = None,
) -> figures.Drawing:
    """One row for each arm and one panel for each metric, on log axes.

    Args:
      metrics: metric -> label of its panel.
      bounds: metric -> number at which a line is drawn.
      title: of the figure.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``; rows are ordered by the
      first metric.
    """

    def draw(results: figures.Results) -> Any:
        import matplotlib

        def final(arm, metric):
            return float(np.median(results[arm].final(metric)))

        first = next(iter(metrics))
        arms = [arm for arm in results if first in results[arm]]
        arms.sort(key=lambda arm: -final(arm, first))
        with matplotlib.rc_context(figures._LOOK):
            size = (3.2, 0.6 + 0.17 * max(4, len(arms)))
            figure = figures._figure(size, len(metrics), 1, title)
            grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
            for axes, (metric, label) in zip(grid, metrics.items(), strict=True):
                values = [final(arm, metric) for arm in arms]
                axes.plot(values, range(len(arms)), "o", color=figures.PALETTE[0])
                figures._scale(axes, "x", [np.array(values)], True)
                axes.set_xlabel(label)
                if bounds and metric in bounds:
                    axes.axvline(bounds[metric], color=figures.PALETTE[1], linewidth=1)
            grid[0].set_yticks(range(len(arms)), [results[arm].label for arm in arms])
            grid[0].set_ylim(-0.8, len(arms) - 0.2)
        return figure

    return draw


def trends(
    metrics: Mapping[float, str],
    *,
    arms: Sequence[str] | None = None,
    label: str | None = None,
    across: str = "",
    title: str | None = None,
    log: bool = False,
    log_across: bool = False,
    bound: tuple[float, str] | None = None,
) -> figures.Drawing:
    """Final numbers of each arm against a quantity, with 95 % intervals of the mean.

    Args:
      metrics: the quantity's values -> the metric whose final number belongs there.
      arms: the arms to draw, all that have one of the metrics by default.
      label: of the value axis; made from the first metric if not given.
      across: what the quantity is.
      title: of the figure.
      log: whether the value axis is logarithmic.
      log_across: whether the horizontal one is.
      bound: a number at which a line is drawn, and what it is.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``. Each arm is a line
      through its means; a number that is not finite is left out.

    Raises:
      ValueError: there are no metrics.
    """
    if not metrics:
        raise ValueError("metrics is empty, expected at least one")

    def draw(results: figures.Results) -> Any:
        import matplotlib

        with matplotlib.rc_context(figures._LOOK):
            drawn = [
                name
                for name, arm in results.items()
                if (arms is None or name in arms)
                and any(metric in arm for metric in metrics.values())
            ]
            first = next(iter(metrics.values()))
            groups = split(drawn, ENTRIES - (bound is not None))
            figure, grid = _rows((4.8, 3.2), len(groups), title)
            legends, bars = [], False
            for axes, group in zip(grid, groups, strict=True):
                entries = []
                for name, style in _styles(results, group):
                    arm = results[name]
                    here = [x for x, metric in metrics.items() if metric in arm]
                    rows = [np.asarray(arm.final(metrics[x]), float) for x in here]
                    known = [values[np.isfinite(values)] for values in rows]
                    means, halves = zip(*map(mean_interval, known), strict=True)
                    look = dict(color=style.color, linestyle=style.line)
                    marks = dict(marker=style.marker or "o", capsize=3)
                    spread = halves if any(half > 0 for half in halves) else None
                    bars |= spread is not None
                    axes.errorbar(here, means, yerr=spread, **look, **marks)
                    line = axes.plot([], [], marker=marks["marker"], **look)[0]
                    entries.append((line, arm.label))
                if bound is not None:
                    look = dict(color=figures._GRAY, linestyle=":", linewidth=1)
                    entries.append((axes.axhline(bound[0], **look), bound[1]))
                axes.set_ylabel(figures._words(first) if label is None else label)
                legends.append((axes, entries))
            if log_across:
                axes.set_xscale("log")
            if log:
                axes.set_yscale("log")
            axes.set_xticks(list(metrics), [format(x, "g") for x in metrics])
            axes.set_xticks([], minor=True)
            axes.set_xlabel(across)
            note = "bars: 95 % interval of the mean over seeds" if bars else ""
            add_legends(figure, legends, note)
        return figure

    return draw


def frontier(
    series: Mapping[str, Mapping[str, str]],
    *,
    across: tuple[str, str],
    up: tuple[str, str],
    marks: str = "",
    title: str | None = None,
) -> figures.Drawing:
    """Two final numbers of each arm against each other, a line through each series.

    Args:
      series: name in the legend -> its arms in their order, each with what is written
        beside its point; an arm that was not run is left out.
      across: the metric along the horizontal axis, and its label.
      up: the same of the vertical axis.
      marks: what is written beside the points.
      title: of the figure.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``. Points are means over
      the seeds, with 95 % intervals both ways.

    Raises:
      ValueError: there is no series.
    """
    if not series:
        raise ValueError("series is empty, expected at least one")

    def draw(results: figures.Results) -> Any:
        import matplotlib
        from matplotlib import patheffects

        halo = patheffects.withStroke(linewidth=2.5, foreground="white")
        with matplotlib.rc_context(figures._LOOK):
            groups = split([n for n in series if any(a in results for a in series[n])])
            figure, grid = _rows((4.8, 3.6), len(groups), title)
            legends, bars = [], False
            for axes, group in zip(grid, groups, strict=True):
                entries = []
                for side, (name, style) in zip(
                    itertools.cycle(_SIDES), _styles(series, group), strict=False
                ):
                    arms = series[name]
                    here = {arm: mark for arm, mark in arms.items() if arm in results}
                    (x, x_half), (y, y_half) = (
                        zip(
                            *(
                                mean_interval(results[arm].final(metric))
                                for arm in here
                            ),
                            strict=True,
                        )
                        for metric, _ in (across, up)
                    )
                    line = dict(color=style.color, marker=style.marker or "o")
                    ends = dict(elinewidth=0.8, capsize=2)
                    axes.errorbar(x, y, xerr=x_half, yerr=y_half, **line, **ends)
                    bars |= bool(max(x_half + y_half) > 0)
                    for mark, *point in zip(here.values(), x, y, strict=True):
                        near = dict(xytext=side, textcoords="offset points", fontsize=8)
                        look = dict(ha="center", va="center", color=style.color)
                        look |= dict(zorder=5, path_effects=[halo])
                        axes.annotate(mark, point, **near, **look)
                    entries.append((axes.plot([], [], **line)[0], name))
                axes.set_ylabel(up[1])
                legends.append((axes, entries))
            axes.set_xlabel(across[1])
            axes.margins(0.08)
            notes = [marks, "bars: 95 % intervals of the mean over seeds" * bars]
            add_legends(figure, legends, "; ".join(filter(None, notes)))
        return figure

    return draw


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; 0 for fewer than 3 numbers.

    The interval of two numbers is 12.7 times as wide as they are apart, which would
    take an accuracy beyond 1.

    >>> import numpy as np
    >>> from logitlab.report.comparisons import mean_interval
    >>> mean_interval(np.array([1.0, 2.0, 3.0]))[1].round(3)
    np.float64(2.484)
    """
    values = values[~np.isnan(values)]
    if values.size < 3:
        return (float(values.mean()) if values.size else math.nan), 0.0
    from scipy import stats

    error = values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), stats.t.ppf(0.975, values.size - 1) * error
