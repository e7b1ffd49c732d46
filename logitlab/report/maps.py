"""Maps over a plane: a classifier's probabilities, or a function and its lower bound.

The colors are the classes' own, by their place in the palette, in every panel. White
is where nothing is decided, so that a decision boundary needs no line.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from logitlab.report import figures
from logitlab.report.legends import add_legends, extent, wrap

__all__ = ["Map", "Sheet", "probability_maps", "surfaces"]

_MAPS_WIDTH, _MAP_WIDTHS, _SHEET_SIZE = 5.6, (2.1, 2.8), (3.1, 2.75)  # inches
_PIXELS = 300  # of a map, along each side
_MESH = 30  # lines of a sheet, along each side
_UNKNOWN = 0.88  # the gray of a map where there are no numbers, or no map
_VIEW = dict(elev=26, azim=-58)
_LINE = dict(color="#222222", linewidth=0.8, linestyle=(0, (4, 2.5)))
_BELOW = 0.6  # of the function's range is drawn of a bound, below the minimum
_DARKER = 0.6  # of a class color, for its points
_SHEETS = ((figures.PALETTE[0], 0.32), (figures.PALETTE[1], 0.85))  # above, below
_DOT = dict(
    linestyle="", marker="o", markersize=5, color="black", markeredgecolor="white"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """A classifier's probabilities over a grid of the plane, and data points.

    Attributes:
      across: (W,) increasing, the grid's first coordinate.
      up: (H,) increasing, its second coordinate.
      probs: (H, W, C) probabilities of 2 to 8 classes on the grid; NaN is drawn gray.
      points: (n, 2), drawn as dots; those outside of the grid are not seen.
      classes: (n,) ints in ``[0, C)``, the points' labels.
      lines: (k, 3) rows (a, b, c), each the hyperplane ``a x + b y + c = 0``; a row
        that is none, because a = b = 0 or it is not finite, is left out.
      note: a few words for a corner, ``"accuracy 0.96"``.

    Raises:
      ValueError: arrays whose shapes do not agree, coordinates that do not increase,
        probabilities that do not sum to one, or labels that are not classes.
    """

    across: ArrayLike
    up: ArrayLike
    probs: ArrayLike
    points: ArrayLike
    classes: ArrayLike
    lines: ArrayLike = ()
    note: str = ""

    def __post_init__(self):
        if np.size(self.lines) == 0:
            object.__setattr__(self, "lines", np.zeros((0, 3)))
        _to_numpy(self, "across", "up", "probs", "points", "lines")
        object.__setattr__(self, "classes", np.asarray(self.classes))
        _check_grid(self, "probs", 3)
        if not 2 <= self.probs.shape[-1] <= len(figures.PALETTE):
            raise ValueError(
                f"probs has {self.probs.shape[-1]} classes, expected 2 to "
                f"{len(figures.PALETTE)}, one for each color"
            )
        sums = self.probs.sum(-1)
        if (self.probs < 0).any() or (np.abs(sums - 1) > 0.01).any():
            raise ValueError(
                f"probs is at least {np.nanmin(self.probs):g} and sums to "
                f"{np.nanmin(sums):g} to {np.nanmax(sums):g}, expected probabilities "
                "that sum to 1 over the classes"
            )
        for name, size in (("points", 2), ("lines", 3)):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[1] != size:
                raise ValueError(f"{name} has shape {shape}, expected (n, {size})")
        if self.classes.shape != self.points.shape[:1]:
            raise ValueError(
                f"classes has shape {self.classes.shape}, expected "
                f"{self.points.shape[:1]}, one for each of the points"
            )
        if self.classes.dtype.kind not in "iu":
            raise ValueError(f"classes has dtype {self.classes.dtype}, expected ints")
        strange = (self.classes < 0) | (self.classes >= self.probs.shape[-1])
        if strange.any():
            raise ValueError(
                f"classes outside [0, {self.probs.shape[-1]}): "
                f"{self.classes[strange][:5]}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Sheet:
    """A function on a grid, a bound that lies below it, and where the two meet.

    Attributes:
      across: (W,) increasing, the grid's first coordinate.
      up: (H,) increasing, its second coordinate.
      above: (H, W) the function; a value that is not finite leaves a hole.
      below: (H, W) the bound, cut off where it is far below the function's minimum.
      touches: (x, y, z) of the point where they meet.
      names: of the function and of the bound, for the legend.

    Raises:
      ValueError: arrays whose shapes do not agree, coordinates that do not increase, a
        function without a finite value, or other than two names.
    """

    across: ArrayLike
    up: ArrayLike
    above: ArrayLike
    below: ArrayLike
    touches: ArrayLike
    names: tuple[str, str] = ("function", "lower bound")

    def __post_init__(self):
        _to_numpy(self, "across", "up", "above", "below", "touches")
        _check_grid(self, "above", 2)
        _check_grid(self, "below", 2)
        if not np.isfinite(self.above).any():
            raise ValueError("above has no finite value, expected some")
        if self.touches.shape != (3,):
            raise ValueError(f"touches has shape {self.touches.shape}, expected (3,)")
        if isinstance(self.names, str) or len(self.names) != 2:
            raise ValueError(f"names is {self.names!r}, expected two names")


def probability_maps(
    maps: Callable[[figures.Results], Mapping[str, Map]],
    *,
    columns: int | None = None,
    title: str | None = None,
    labels: tuple[str, str] = ("x₁", "x₂"),
) -> figures.Drawing:
    """Probabilities of classifiers of the plane, one panel each, with the same axes.

    With two classes the color of the likelier one fades to white as its probability
    falls to 1/2. With C classes the colors are mixed by the probabilities, and the
    mixture fades to white as the highest of them falls to 1/C.

    Args:
      maps: results -> title of a panel -> its map. What was not run is left out.
      columns: how many panels stand side by side; 4 or fewer by default.
      title: of the figure.
      labels: of the two axes.

    Returns:
      A function from results to a ``matplotlib.figure.Figure``, which says "not run"
      where there are no maps.

    Raises:
      ValueError: less than one column.
    """
    if columns is not None and columns < 1:
        raise ValueError(f"columns is {columns}, expected at least 1")

    def draw(results: figures.Results) -> Any:
        import matplotlib

        drawn = dict(maps(results))
        with matplotlib.rc_context(figures._LOOK):
            if not drawn:
                return _not_run(title)
            low, high = _limits(drawn.values())
            many = len(drawn)
            across = min(many, columns or (3 if many in (5, 6, 9) else min(4, many)))
            down = -(-many // across)
            width = float(np.clip(_MAPS_WIDTH / across, *_MAP_WIDTHS))
            figure = figures._figure((width, width), across, down, title)
            grid = figure.subplots(
                down, across, sharex=True, sharey=True, squeeze=False
            )
            for axes in grid.flat[many:]:
                axes.remove()
            for place, (name, map_) in enumerate(drawn.items()):
                axes = grid.flat[place]
                note = _paint_map(axes, map_, low, high)
                _narrow(figure, axes.set_title(name), 0.9 * width)
                _narrow(figure, note, 0.8 * width)
                # In the last row there may be no panel below this one.
                axes.tick_params(labelbottom=place + across >= many)
                if place >= (down - 1) * across:
                    axes.set_xlabel(labels[0])
            for axes in grid[:, 0]:
                axes.set_ylabel(labels[1])
            entries = _map_entries(drawn.values())
            add_legends(figure, [(grid[0, -1], entries)], "white: undecided")
            _fit(figure, grid, (high[1] - low[1]) / (high[0] - low[0]), width)
        return figure

    return draw


def surfaces(
    sheets: Mapping[str, Sheet],
    *,
    title: str | None = None,
    labels: tuple[str, str, str] = ("x", "y", "F"),
) -> figures.Drawing:
    """A function above its lower bound, one panel for each point where they meet.

    All panels have the same vertical axis. It ends, and bounds are cut off, below the
    function's minimum by 0.6 of the function's range.

    Args:
      sheets: title of a panel -> its surfaces.
      title: of the figure.
      labels: of the three axes.

    Returns:
      A function from results, which it does not need, to a
      ``matplotlib.figure.Figure``.

    Raises:
      ValueError: there are no sheets.
    """
    if not sheets:
        raise ValueError("sheets is empty, expected at least one")

    def draw(results: figures.Results) -> Any:
        import matplotlib

        del results
        many, (low, high) = len(sheets), _range(sheets.values())
        across = 3 if many in (5, 6, 9) else min(4, many)
        down = -(-many // across)
        with matplotlib.rc_context(figures._LOOK):
            figure = figures._figure(_SHEET_SIZE, across, down, title)
            # The layout knows only roughly how far labels in space reach.
            figure.get_layout_engine().set(h_pad=0.08)
            for place, (name, sheet) in enumerate(sheets.items()):
                axes = figure.add_subplot(down, across, place + 1, projection="3d")
                _paint_sheet(axes, sheet, low, high)
                axes.set_xlabel(labels[0], labelpad=-6)
                axes.set_ylabel(labels[1], labelpad=-6)
                axes.set_zlabel(labels[2], labelpad=-6)
                _narrow(figure, axes.set_title(name), 0.9 * _SHEET_SIZE[0])
            lines = max(axes.get_title().count("\n") for axes in figure.axes)
            figure.set_figheight(figure.get_figheight() + 0.15 * lines * down)
            corner = figure.axes[min(across, many) - 1]
            add_legends(figure, [(corner, _sheet_entries(sheets.values()))])
        return figure

    return draw


def _to_numpy(record: Any, *names: str) -> None:
    for name in names:
        object.__setattr__(record, name, np.asarray(getattr(record, name), np.float64))


def _check_grid(record: Any, name: str, rank: int) -> None:
    """``across`` and ``up`` are coordinates, and an array has their shape."""
    for axis in ("across", "up"):
        values = getattr(record, axis)
        if values.ndim != 1 or values.size < 2:
            raise ValueError(
                f"{axis} has shape {values.shape}, expected one axis of 2 or more"
            )
        if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
            raise ValueError(f"{axis} is not finite and increasing: {values[:5]}")
    shape, grid = getattr(record, name).shape, (record.up.size, record.across.size)
    if len(shape) != rank or shape[:2] != grid:
        expected = f"({grid[0]}, {grid[1]}{', C' * (rank - 2)})"
        raise ValueError(f"{name} has shape {shape}, expected {expected}")


def _not_run(title: str | None) -> Any:
    figure = figures._figure((figures._MIN_WIDTH, 2.2), 1, 1, title)
    axes = figure.subplots()
    axes.set_axis_off()
    where = dict(ha="center", va="center", transform=axes.transAxes)
    axes.text(0.5, 0.5, "not run", color=figures._GRAY, **where)
    return figure


def _limits(maps: Sequence[Map]) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right corner of all grids."""
    low = np.min([(m.across[0], m.up[0]) for m in maps], axis=0)
    return low, np.max([(m.across[-1], m.up[-1]) for m in maps], axis=0)


def _fit(figure: Any, grid: np.ndarray, ratio: float, width: float) -> None:
    """Gives the figure the height at which maps of this shape fill their places."""
    for axes in figure.axes:
        axes.set_aspect("auto")  # so that titles and labels stay out of the places
    for _ in range(2):  # when it grows, a place can become a little wider or narrower
        figure.draw_without_rendering()
        place = grid[0, 0].get_position()
        across = min(width, place.width * figure.get_figwidth())
        lacks = across * float(np.clip(ratio, 0.3, 3))
        lacks -= place.height * figure.get_figheight()
        figure.set_figheight(figure.get_figheight() + len(grid) * lacks)
    for axes in figure.axes:
        axes.set_aspect("equal")


def _paint_map(axes: Any, map_: Map, low: np.ndarray, high: np.ndarray) -> Any:
    """Draws one panel; returns its note."""
    from matplotlib import ticker

    size = max(_PIXELS, map_.across.size), max(_PIXELS, map_.up.size)
    across, up, probs = _resample(map_.across, map_.up, map_.probs, *size)
    half = (across[1] - across[0]) / 2, (up[1] - up[0]) / 2  # coordinates are centers
    extent = (across[0] - half[0], across[-1] + half[0])
    extent += (up[0] - half[1], up[-1] + half[1])
    look = dict(origin="lower", interpolation="bilinear", aspect="auto")
    axes.imshow(_blend(probs), extent=extent, zorder=0, **look)
    segments = [_segment(line, low, high) for line in map_.lines]
    for segment in segments:
        if segment is not None:
            axes.plot(*segment.T, **_LINE, zorder=2)
    size = float(np.clip(2500 / max(1, len(map_.points)), 5, 14))
    colors = _colors(map_.probs.shape[-1])[map_.classes] * _DARKER
    edge = dict(edgecolors="white", linewidths=0.14 * size**0.5, zorder=3)
    axes.scatter(*map_.points.T, s=size, c=colors, **edge)
    axes.grid(False)
    axes.set_facecolor((_UNKNOWN,) * 3)
    axes.spines[:].set_visible(True)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    box = dict(boxstyle="round,pad=0.25", facecolor="white", alpha=0.85, linewidth=0)
    look = dict(fontsize=7.5, bbox=box if map_.note else None, zorder=4)
    where = dict(ha="left", va="bottom", transform=axes.transAxes)
    return axes.text(0.03, 0.03, map_.note, **look, **where)


def _narrow(figure: Any, text: Any, inches: float) -> None:
    """Breaks the lines of a text until it is no wider than this."""
    words = text.get_text()
    for width in range(int(16 * inches), 7, -1):
        if extent(figure, text)[0] <= inches:
            break
        text.set_text(wrap(words, width))


def _resample(across, up, values, width, height):
    """Coordinates of an even grid of this size, and the values on it."""
    x = np.linspace(across[0], across[-1], width)
    y = np.linspace(up[0], up[-1], height)
    values = _interpolate(x, across, np.swapaxes(values, 0, 1))
    return x, y, _interpolate(y, up, np.swapaxes(values, 0, 1))


def _interpolate(x, known, values):
    """Linear along the first axis, from ``known`` coordinates to ``x``."""
    right = np.clip(np.searchsorted(known, x), 1, known.size - 1)
    share = (x - known[right - 1]) / (known[right] - known[right - 1])
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (1 - share) * values[right - 1] + share * values[right]


def _blend(probs: np.ndarray) -> np.ndarray:
    """Probabilities [..., C] to colors [..., 3], paler where they say less."""
    classes = probs.shape[-1]
    colors, top = _colors(classes), probs.max(-1, keepdims=True)
    # Two colors would mix to a gray, through which no boundary is seen.
    mixed = colors[probs.argmax(-1)] if classes == 2 else probs @ colors
    sure = (top * classes - 1) / (classes - 1)
    image = np.clip(1 + sure * (mixed - 1), 0, 1)
    return np.where(np.isnan(top), _UNKNOWN, image)


def _colors(classes: int) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(color) for color in figures.PALETTE[:classes]])


def _segment(line, low, high):
    """The part of ``a x + b y + c = 0`` in a box: its two ends, or None."""
    size = np.hypot(line[0], line[1])
    if not (np.isfinite(line).all() and size > 0):
        return None
    normal, center = line[:2] / size, (low + high) / 2
    foot = center - (normal @ center + line[2] / size) * normal
    along = np.array([-normal[1], normal[0]])
    start, stop = -np.inf, np.inf
    for i in range(2):
        if abs(along[i]) < 1e-12:
            if not low[i] <= foot[i] <= high[i]:
                return None
            continue
        ends = (low[i] - foot[i]) / along[i], (high[i] - foot[i]) / along[i]
        start, stop = max(start, min(ends)), min(stop, max(ends))
    return foot + np.outer((start, stop), along) if start < stop else None


def _map_entries(maps: Sequence[Map]) -> list[tuple]:
    """(handle, label) for each class, and for hyperplanes if there are any."""
    from matplotlib.lines import Line2D

    entries = []
    for place, color in enumerate(_colors(max(m.probs.shape[-1] for m in maps))):
        area = Line2D([], [], linestyle="", marker="s", markersize=9, color=color)
        look = dict(markersize=4.5, markeredgecolor="white", markeredgewidth=0.5)
        dot = Line2D([], [], linestyle="", marker="o", color=color * _DARKER, **look)
        entries.append(((area, dot), f"class {place}"))
    if any(len(m.lines) for m in maps):
        entries.append((Line2D([], [], **_LINE), "hyperplanes"))
    return entries


def _paint_sheet(axes: Any, sheet: Sheet, low: float, high: float) -> None:
    from matplotlib import ticker
    from matplotlib.colors import LightSource, to_rgba
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    polygons, colors = [], []
    for values, (color, alpha) in zip((sheet.above, sheet.below), _SHEETS, strict=True):
        values = np.where(np.isfinite(values), values, np.nan)
        mesh = _resample(sheet.across, sheet.up, values, _MESH, _MESH)
        pieces = _pieces(*mesh, low)
        polygons += pieces
        colors += [to_rgba(color, alpha)] * len(pieces)
    # One collection: which piece hides which is decided piece by piece.
    light = LightSource(azdeg=60 - _VIEW["azim"], altdeg=60)
    look = dict(linewidths=0.3, shade=True, lightsource=light)
    look |= dict(facecolors=colors, edgecolors=colors)
    axes.add_collection3d(Poly3DCollection(polygons, **look), autolim=False)
    axes.computed_zorder = False
    x, y, z = sheet.touches
    axes.plot([x], [y], [z], **_DOT, zorder=5)
    axes.set_xlim(sheet.across[0], sheet.across[-1])
    axes.set_ylim(sheet.up[0], sheet.up[-1])
    axes.set_zlim(low, high)
    axes.set_box_aspect((1, 1, 0.8), zoom=1.12)
    axes.view_init(**_VIEW)
    # Where two axes meet, two labels would be at the same place.
    ticks = dict(nbins=4, steps=[1, 2, 2.5, 5, 10], prune="both")
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(ticker.MaxNLocator(**ticks))
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_color("#888888")
    axes.tick_params(pad=-3)


def _sheet_entries(sheets: Sequence[Sheet]) -> list[tuple]:
    """(handle, label) for the function, the bound and the point where they meet."""
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for place, (color, alpha) in enumerate(_SHEETS):
        names = ", ".join(dict.fromkeys(sheet.names[place] for sheet in sheets))
        patch = Patch(facecolor=to_rgba(color, alpha), edgecolor=color, linewidth=0.5)
        entries.append((patch, wrap(names, 40)))
    return [*entries, (Line2D([], [], **_DOT), "where they meet")]


def _range(sheets: Sequence[Sheet]) -> tuple[float, float]:
    """Lowest and highest value that is drawn; the lowest is where bounds are cut."""
    ends = []
    for sheet in sheets:
        known = sheet.above[np.isfinite(sheet.above)]
        bound = sheet.below[np.isfinite(sheet.below)]
        low, high = known.min(), known.max()
        lowest = bound.min(initial=low)
        if low < high:  # else the bound alone tells what is far below
            lowest = max(lowest, low - _BELOW * (high - low))
        ends.append((lowest, high))
    lows, highs = zip(*ends, strict=True)
    low, high = min(lows), max(highs)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _pieces(across, up, values, floor):
    """The quadrilaterals of a surface, cut at the floor: a list of (corners, 3)."""
    x, y = np.meshgrid(across, up)
    points = np.stack([x, y, values], -1)
    corners = [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]]
    pieces = []
    for piece in np.stack(corners, 2).reshape(-1, 4, 3):
        lowest, highest = piece[:, 2].min(), piece[:, 2].max()  # NaN is neither
        if lowest >= floor:
            pieces.append(piece)
        elif highest > floor:
            pieces.append(_cut(piece, floor))
    return pieces


def _cut(piece, floor):
    """The part of a polygon that is above the floor."""
    corners = []
    for a, b in zip(piece, np.roll(piece, -1, axis=0), strict=True):
        if a[2] >= floor:
            corners.append(a)
        if (a[2] - floor) * (b[2] - floor) < 0:
            corners.append(a + (floor - a[2]) / (b[2] - a[2]) * (b - a))
    return np.array(corners)
