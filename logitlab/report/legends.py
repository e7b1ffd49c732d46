"""Legends of at most six entries, in a column beside the panels that they explain.

Whoever has to look up more than six colors gives up. So a figure of more arms draws
them in groups, each in panels of its own with the same axes and its own legend.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

__all__ = ["ENTRIES", "add_legends", "extent", "split", "wrap"]

ENTRIES = 6  # of one legend
_LETTERS, _GAP = 26, 0.15  # width of a label; inches between panels and legend


def split(names: Sequence[str], most: int = ENTRIES) -> list[list[str]]:
    """Groups of at most ``most`` names, in their order, as even as can be.

    >>> from logitlab.report.legends import split
    >>> split("abcdefghi")
    [['a', 'b', 'c', 'd', 'e'], ['f', 'g', 'h', 'i']]
    """
    count = max(1, -(-len(names) // most))
    size, longer = divmod(len(names), count)
    ends = [place * size + min(place, longer) for place in range(count + 1)]
    return [
        list(names[start:end]) for start, end in zip(ends[:-1], ends[1:], strict=True)
    ]


def add_legends(
    figure: Any, legends: Sequence[tuple[Any, Sequence[tuple]]], notes: str = ""
) -> None:
    """Puts a legend right of each of some panels, and notes below all.

    The figure grows by the room that they take.

    Args:
      figure: with a constrained layout.
      legends: (axes, entries), of which each entry is (handle, label).
      notes: what holds for all panels, such as what thin lines are.
    """
    from matplotlib.legend_handler import HandlerTuple

    look = dict(
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        borderaxespad=0,
        frameon=False,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.6)},
    )
    widest = 0.0
    for axes, entries in legends:
        if entries:
            handles = [handle for handle, _ in entries]
            labels = [wrap(label, _LETTERS) for _, label in entries]
            legend = axes.legend(handles, labels, **look)
            widest = max(widest, extent(figure, legend)[0] + _GAP)
    figure.set_figwidth(figure.get_figwidth() + widest)
    if notes:
        text = wrap(notes, int(14 * figure.get_figwidth()))
        _, height = extent(figure, figure.supxlabel(text, fontsize=8))
        figure.set_figheight(figure.get_figheight() + height)


def extent(figure: Any, artist: Any) -> tuple[float, float]:
    """Width and height of an artist, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    box = artist.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi


def wrap(text: str, width: int) -> str:
    """The text in lines of at most ``width`` letters, and of 8 at least."""
    return textwrap.fill(text, max(8, width))
