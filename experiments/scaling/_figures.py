"""The pictures of the scaling study: loss, its parts, compute, exponents."""

import functools

import numpy as np

from experiments.scaling import _laws as laws
from experiments.scaling import _points as at
from logitlab.report import figures
from logitlab.report.legends import add_legends

_AXES = {
    "parameters": "parameters N",
    "tokens": "data D (bytes)",
    "flops": "compute 6ND (flop)",
}
_PARTS = {
    "error-entropy": figures.PALETTE[0],
    "self-alignment": figures.PALETTE[4],
    "minus log confidence": figures.PALETTE[2],
}


def figures_of(config, points) -> tuple[dict, dict]:
    """Functions of the results that draw, and captions; by variant."""
    if config.variant in ("links", "temperature", "classes"):
        drawn = {"loss": functools.partial(_by_series, points)}
        captions = {"loss": "Held-out cross-entropy against parameters, at each D."}
        if config.variant != "classes":
            exponents = functools.partial(_exponents, _series_sets(points), config.fit)
            drawn["exponents"] = exponents
            captions["exponents"] = _EXPONENTS.format("of each objective's law")
    else:
        chosen = at.subsets(points, config.fit)
        drawn = {
            "law": functools.partial(_law, points, config.fit),
            "compute": functools.partial(_compute, points, config.fit),
            "exponents": functools.partial(_exponents, chosen, config.fit),
        }
        captions = {
            "law": (
                "Each run's held-out cross-entropy, and the law fitted to all of them "
                "but the open diamonds. Band: 90 % of the laws of resampled runs. "
                "Colors on the right are of the width H, as in the middle."
            ),
            "compute": (
                "The law's best loss for a compute of 6ND and the sizes that reach it. "
                "Open diamonds: runs that the law was not fitted to. Colors are of the "
                "width H, as in the middle."
            ),
            "exponents": _EXPONENTS.format("of the law, by the runs it is fitted to"),
        }
    drawn["parts"] = functools.partial(_parts, points)
    captions["parts"] = (
        "Cross-entropy (dot) is error-entropy + self-alignment - log confidence."
    )
    return drawn, captions


_EXPONENTS = (
    "Exponents {}. Bars: 90 % of the fits to resampled runs, which hold for a choice "
    "of runs and do not cover the choice."
)


def _law(points, fit, results):
    """Loss against N, D and compute, over what the law leaves of it."""
    law, resampled = at.pooled(points, results, fit)
    ends = at.finals(points, results)
    with _look():
        figure = figures._figure((3.5, 4.6), 3, 1, None)
        grid = figure.subplots(
            2, 3, sharex="col", sharey="row", height_ratios=(2.6, 1), squeeze=False
        )
        panels = ("parameters", "tokens"), ("tokens", "width"), ("flops", "width")
        for (top, below), (across, fixed) in zip(grid.T, panels, strict=True):
            colours = _colours(points, fixed)
            for value, group in at.by(points, fixed).items():
                colour, marker = colours[value]
                n = _range(points, "parameters", group if fixed == "width" else None)
                d = _range(points, "tokens", group if fixed == "tokens" else None)
                x = {"parameters": n, "tokens": d, "flops": 6 * n * d}[across]
                top.plot(x, law.loss(n, d), color=colour, linewidth=1.3, zorder=2)
                low, high = _band([o.loss(n, d) for o in resampled], fit.level)
                top.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
                for point in group:
                    y = ends[points.index(point)]
                    place = np.full(len(y), getattr(point, across))
                    look = _dot(point, colour, marker)
                    top.plot(place, y, **look)
                    left = y / law.loss(point.parameters, point.tokens) - 1
                    below.plot(place, 100 * left, **look)
            below.axhline(0, color=figures._GRAY, linewidth=0.8)
            _log_axis(top, "x")
            below.set_xlabel(_AXES[across])
        amounts = sorted({point.tokens for point in points})
        grid[0, 1].set_xticks(amounts, map(at.amount, amounts))
        grid[0, 1].set_xticks([], minor=True)
        _log_axis(grid[0, 0], "y")
        grid[1, 0].margins(y=0.15)
        grid[0, 0].set_ylabel("cross-entropy (nats / byte)")
        grid[1, 0].set_ylabel("run over law (%)")
        figure.align_ylabels()
        for axes, name, across in (
            (grid[0, 0], "tokens", "parameters"),
            (grid[0, 1], "width", "tokens"),
        ):
            most = max(getattr(point, across) for point in points)
            rows = at.by(points, name).items()
            if name == "tokens":
                _name_rows(axes, {v: law.loss(most, v) for v, _ in rows}, name)
            else:
                sizes = {value: group[0].parameters for value, group in rows}
                heights = {value: law.loss(n, most) for value, n in sizes.items()}
                _name_rows(axes, heights, name)
        _add_law(grid[0, 2], points, "law", fit)
    return figure


def _compute(points, fit, results):
    """What the law says of compute: the best loss, and the N and D that reach it."""
    law, resampled = at.pooled(points, results, fit)
    ends = at.finals(points, results)
    flops = np.geomspace(
        0.7 * min(p.flops for p in points), 3 * max(p.flops for p in points), 60
    )

    def best(law):
        n, d = laws.optimal_sizes(law, flops)
        return {"loss": law.loss(n, d), "parameters": n, "tokens": d}

    mine, others = best(law), [best(other) for other in resampled]
    panels = {
        "loss": "cross-entropy (nats / byte)",
        "parameters": "best parameters N",
        "tokens": "best data D (bytes)",
    }
    with _look():
        figure = figures._figure((3.5, 3.0), 3, 1, None)
        colours = _colours(points, "width")
        for axes, (key, label) in zip(
            figure.subplots(1, 3), panels.items(), strict=True
        ):
            axes.plot(flops, mine[key], color="black", linewidth=1.6, zorder=3)
            low, high = _band([other[key] for other in others], fit.level)
            axes.fill_between(flops, low, high, color="black", alpha=0.14, linewidth=0)
            for point, y in zip(points, ends, strict=True):
                y = y if key == "loss" else [getattr(point, key)]
                colour, marker = colours[point.width]
                look = _dot(point, colour, marker)
                axes.plot(np.full(len(y), point.flops), y, **look)
            _log_axis(axes, "x")
            _log_axis(axes, "y")
            axes.set_xlabel(_AXES["flops"])
            axes.set_ylabel(label)
        share = law.beta / (law.alpha + law.beta)
        for axes, power in zip(figure.axes[1:], (share, 1 - share), strict=True):
            axes.set_title(f"grows as $C^{{{power:.2f}}}$", loc="left")
        sizes = {point.width: point.parameters for point in points}
        _name_rows(figure.axes[1], sizes, "width")
        _add_law(figure.axes[0], points, "the law's optimum", fit)
    return figure


def _parts(points, results):
    """Error-entropy, self-alignment and minus log confidence, stacked, by size."""
    panels = at.by(at.ladder(points), "series", "tokens")
    amounts = len({tokens for _, tokens in panels})
    across = amounts if 1 < amounts < 5 else min(5, len(panels))
    down = -(-len(panels) // across)
    with _look():
        figure = figures._figure((2.7, 2.5), across, down, None)
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        top = _top(at.finals(at.ladder(points), results).mean(1))
        for axes, ((series, tokens), group) in zip(
            grid.flat, panels.items(), strict=False
        ):
            parts = {
                name: at.finals(group, results, metric).mean(1)
                for name, metric in at.COMPONENTS.items()
            }
            parts["minus log confidence"] = -parts.pop("log confidence")
            up, down_to = np.zeros(len(group)), np.zeros(len(group))
            places = np.arange(len(group))
            for name, values in parts.items():
                start = np.where(values >= 0, up, down_to)
                axes.bar(places, values, 0.72, start, color=_PARTS[name])
                up, down_to = up + values.clip(0), down_to + values.clip(max=0)
            total = at.finals(group, results).mean(1)
            _note_outliers(axes, places, total, top)
            look = dict(markerfacecolor="white", markeredgewidth=1.2, markersize=5)
            axes.plot(places, total, "o", color="black", **look, zorder=4)
            axes.axhline(0, color=figures._GRAY, linewidth=0.8)
            axes.set_xticks(places, [str(p.width) for p in group])
            axes.grid(False, axis="x")
            axes.set_title(", ".join(filter(None, (series, f"D={at.amount(tokens)}"))))
            axes.set_xlabel("width H")
        if top < np.inf:
            below = at.finals(points, results, at.COMPONENTS["log confidence"])
            grid[0, 0].set_ylim(-1.2 * below.max(), top)
        for axes in grid[:, 0]:
            axes.set_ylabel("nats / prediction")
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        entries = [(Patch(color=colour), name) for name, colour in _PARTS.items()]
        dot = Line2D([], [], linestyle="", marker="o", color="black", **look)
        entries.append((dot, "cross-entropy"))
        add_legends(figure, [(grid[0, -1], entries)])
    return figure


def _exponents(sets, fit, results):
    """alpha and beta of several fits, with the intervals of resampled runs."""
    fits = [at.pooled(chosen, results, fit, which=n) for chosen, n in sets.values()]
    look = dict(color=figures.PALETTE[0], linewidth=1.6)
    with _look():
        figure = figures._figure((3.3, 0.9 + 0.3 * len(sets)), 2, 1, None)
        grid = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(grid, ("alpha", "beta"), strict=True):
            values = [getattr(law, name) for law, _ in fits]
            end = 2.5 * max(values)  # of the axis: some fits are not determined at all
            for row, (value, (_, others)) in enumerate(zip(values, fits, strict=True)):
                low, high = _band([getattr(o, name) for o in others], fit.level)
                axes.plot([low, min(high, end)], [row, row], **look)
                if high > end:
                    axes.plot(end, row, ">", color=look["color"], clip_on=False)
                axes.plot(value, row, "o", color=look["color"], markersize=5)
                axes.annotate(
                    f"{value:.2f}",
                    (value, row),
                    (0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
            axes.set_xlim(0, min(end, axes.get_xlim()[1]))
            quantity = "parameters" if name == "alpha" else "data"
            axes.set_xlabel(rf"exponent $\{name}$ of {quantity}")
        grid[0].set_yticks(range(len(sets)), list(sets))
        grid[0].set_ylim(len(sets) - 0.5, -0.7)
    return figure


def _by_series(points, results):
    """Loss against N, a panel for each D and a line for each series."""
    columns = at.by(points, "tokens")
    with _look():
        figure = figures._figure((3.0, 2.8), len(columns), 1, None)
        grid = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        entries, top = {}, _top(at.finals(points, results).mean(1))
        for axes, (tokens, group) in zip(grid, columns.items(), strict=True):
            for place, (series, mine) in enumerate(at.by(group, "series").items()):
                style = figures.style(place)
                sizes = [point.parameters for point in mine]
                ends = at.finals(mine, results)
                look = dict(color=style.color, marker="os^Dv"[place % 5])
                axes.plot(sizes, ends.mean(1), **look, linewidth=1.4)
                _note_outliers(axes, sizes, ends.mean(1), top)
                if ends.shape[1] > 1:
                    axes.plot(sizes, ends, ".", color=style.color, alpha=0.4)
                entries[series] = axes.plot([], [], **look, linewidth=1.4)[0]
            _log_axis(axes, "x")
            axes.set_title(f"D={at.amount(tokens)}")
            axes.set_xlabel(_AXES["parameters"])
        if top < np.inf:
            grid[0].set_yscale("log")
            grid[0].set_ylim(0.93 * at.finals(points, results).min(), top)
        _log_axis(grid[0], "y")
        grid[0].set_ylabel("cross-entropy (nats)")
        entries = [(handle, name) for name, handle in entries.items()]
        add_legends(figure, [(axes, entries)])
    return figure


def _series_sets(points):
    return {
        series: (group, "parameters")
        for series, group in at.by(points, "series").items()
    }


def _top(ends):
    """Where an axis ends if a run diverged, and so would hide all others."""
    most = 2.5 * np.median(ends)
    return 1.15 * ends[ends < most].max() if (ends >= most).any() else np.inf


def _note_outliers(axes, places, ends, top):
    """What lies beyond the axis is said in words."""
    for place, end in zip(places, ends, strict=True):
        if end > top:
            box = dict(facecolor="white", edgecolor="none", pad=1.0, alpha=0.8)
            look = dict(ha="center", va="top", fontsize=8, rotation=90, bbox=box)
            axes.annotate(f"diverged: {end:.0f} →", (place, top), **look, zorder=5)


def _look():
    import matplotlib

    return matplotlib.rc_context(figures._LOOK)


def _colours(points, name):
    """value -> colour and marker, from light to dark; of all points, in order."""
    import matplotlib

    values = sorted({getattr(point, name) for point in points})
    colours = {"tokens": "YlOrRd", "width": "viridis_r"}[name]
    shades = matplotlib.colormaps[colours](np.linspace(0.3, 1.0, len(values)))
    return {
        value: (shade, "os^Dv<>pP"[place % 9])
        for place, (value, shade) in enumerate(zip(values, shades, strict=True))
    }


def _dot(point, colour, marker):
    look = dict(linestyle="", color=colour, markersize=4.5, marker=marker, zorder=3)
    if point.held_out:
        look |= dict(
            marker="D", markersize=7, markerfacecolor="none", markeredgewidth=1.5
        )
    return look


def _name_rows(axes, heights, name):
    """Names the values of ``tokens`` or ``width`` where their rows end on the right."""
    letter = {"tokens": "D", "width": "H"}[name]
    look = dict(ha="left", va="center", fontsize=7.5, color="#222222")
    line = 0.04 * np.ptp(np.log(axes.get_ylim()))  # the height of one name
    groups: list[list] = []  # of rows that end too close for a name each
    for value, height in sorted(heights.items(), key=lambda row: row[1]):
        if not groups or np.log(height / groups[-1][-1][1]) > line:
            groups.append([])
        groups[-1].append((value, height))
    for group in groups:
        values = sorted(value for value, _ in group)
        ends = dict.fromkeys(at.amount(value) for value in (values[0], values[-1]))
        height = np.mean([height for _, height in group])
        place = dict(xycoords=("axes fraction", "data"), annotation_clip=False)
        text = f"{letter}=" + " to ".join(ends)
        axes.annotate(text, (1.01, height), **place, **look)


def _add_law(axes, points, name, fit):
    """A legend of the law, and of runs held out if there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    line = Line2D([], [], color="black", linewidth=1.3)
    entries = [((Patch(facecolor="#00000024"), line), f"{name}, {fit.level:.0%} band")]
    if any(point.held_out for point in points):
        look = dict(color="black", markerfacecolor="none", markeredgewidth=1.5)
        dot = Line2D([], [], linestyle="", marker="D", markersize=7, **look)
        entries.append((dot, "held out"))
    axes.legend(*zip(*entries, strict=True), loc="upper right", frameon=False)


def _log_axis(axes, which):
    """1, 2 and 5 where few powers of ten would be left, with k, M and 10^x."""
    from matplotlib import ticker

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    wide = high > 200 * low
    subs = (1.0,) if wide else (1.0, 2.0, 5.0)
    if high < 8 * low:
        subs = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: at.amount(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _range(points, name, group=None):
    """From the least to the most of all points, or the one value of a group."""
    values = [getattr(point, name) for point in group or points]
    return np.geomspace(min(values), max(values), 50)


def _band(values, level):
    return np.quantile(np.array(values), ((1 - level) / 2, (1 + level) / 2), axis=0)
