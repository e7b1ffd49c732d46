"""Figures of what a classifier's scores are worth, from one's own logits.

Each takes numbers of ``logitlab.metrics`` by name and returns the figure, for a
notebook; a study's figure is a function of its results that calls one of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from logitlab import metrics
from logitlab.report import figures
from logitlab.report.legends import ENTRIES, add_legends, split

__all__ = ["reliability_diagram", "risk_coverage_curves", "score_histograms"]

_SIZE = (3.6, 3.2)


def reliability_diagram(
    bins: Mapping[str, metrics.CalibrationBins], *, title: str | None = None
) -> Any:
    """Accuracy against confidence of each bin, and how many examples are in it.

    Args:
      bins: name in the legend -> ``metrics.calibration_bins``; axes before that of the
        bins, such as seeds, are added up.
      title: of the figure.

    Returns:
      A ``matplotlib.figure.Figure``. A calibrated model lies on the diagonal, an
      overconfident one below it; the legend has the expected calibration error.

    Raises:
      ValueError: there are no bins.

    >>> import jax.numpy as jnp
    >>> from logitlab import metrics, report
    >>> z, y = jnp.float32([[2, 0], [0, 1], [3, 0]]), jnp.array([0, 0, 0])
    >>> figure = report.reliability_diagram({"model": metrics.calibration_bins(z, y)})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['accuracy', 'share']
    """
    pooled = {name: _pooled(each) for name, each in bins.items()}

    def draw(panels, name, style):
        top, below = panels
        shown = {
            k: np.asarray(v) for k, v in metrics.reliability_bins(pooled[name]).items()
        }
        full = shown["count"] > 0
        points = shown["confidence"][full], shown["accuracy"][full]
        share = shown["count"] / max(shown["count"].sum(), 1)
        (line,) = top.plot(*points, color=style.color, linestyle=style.line)
        # Of a bin with few examples the accuracy is chance: its mark is small.
        sizes = 4 + 60 * share[full] / max(share.max(), 1e-9)
        top.scatter(*points, sizes, color=style.color, zorder=3)
        edges = np.linspace(0, 1, len(full) + 1)
        below.stairs(share, edges, color=style.color, linestyle=style.line)
        error = 100 * float(metrics.calibration_error(pooled[name]))
        return line, f"{name}: ECE {error:.1f} %"

    def finish(panels):
        top, below = panels
        ideal = dict(color=figures._GRAY, linestyle=":", linewidth=1, zorder=1)
        top.plot([0, 1], [0, 1], **ideal)
        top.set_ylabel("accuracy")
        below.set_ylabel("share")
        below.set_xlabel("confidence")

    note = "dotted: accuracy is confidence; the more examples, the larger the mark"
    return _figure(pooled, draw, finish, (2.4, 1), title, note, "bins")


def risk_coverage_curves(
    curves: Mapping[str, metrics.RiskCoverage],
    *,
    label: str = "error of the accepted",
    title: str | None = None,
) -> Any:
    """The error of a model that abstains, against the share of examples it answers.

    Args:
      curves: name in the legend -> ``metrics.risk_coverage``.
      label: of the value axis.
      title: of the figure.

    Returns:
      A ``matplotlib.figure.Figure``; lower is better, and the legend has the area under
      each curve.

    Raises:
      ValueError: there are no curves.

    >>> import jax.numpy as jnp
    >>> from logitlab import metrics, report
    >>> curve = metrics.risk_coverage(jnp.float32([3, 2, 1]), jnp.array([0, 1, 0]) == 1)
    >>> figure = report.risk_coverage_curves({"score": curve})
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'score: area 0.278'
    """

    def draw(panels, name, style):
        coverage, risk = (np.asarray(a) for a in curves[name])
        look = dict(color=style.color, linestyle=style.line, linewidth=1.6)
        (line,) = panels[0].plot(coverage, risk, **look)
        return line, f"{name}: area {risk.mean():.3g}"

    def finish(panels):
        panels[0].set_xlim(0, 1.02)
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel(label)
        panels[0].set_xlabel("coverage: share of examples that are accepted")

    return _figure(curves, draw, finish, (1,), title, "", "curves")


def score_histograms(
    scores: Mapping[str, ArrayLike],
    *,
    bins: int = 40,
    label: str = "score",
    title: str | None = None,
) -> Any:
    """How scores of several groups of examples are spread, such as known and unknown.

    Args:
      scores: name in the legend -> scores of any shape.
      bins: how many, of equal width, from the lowest score to the highest.
      label: what the scores are.
      title: of the figure.

    Returns:
      A ``matplotlib.figure.Figure`` of densities, each of area 1, so that groups of
      different size can be compared. Scores that are not finite are left out, and the
      legend says how many.

    Raises:
      ValueError: there are no scores, or ``bins`` is below 1.

    >>> import numpy as np
    >>> from logitlab import report
    >>> figure = report.score_histograms({"known": np.arange(9.0), "new": np.zeros(3)})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['known (9)', 'new (3)']
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    arrays = {name: np.ravel(np.asarray(a, np.float64)) for name, a in scores.items()}
    finite = {name: a[np.isfinite(a)] for name, a in arrays.items()}
    known = np.concatenate([np.zeros(0), *finite.values()])
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    edges = np.histogram_bin_edges([low, high], bins)

    def draw(panels, name, style):
        mine = finite[name]
        counts = np.histogram(mine, edges)[0]
        density = counts / max(mine.size, 1) / np.diff(edges)
        look = dict(color=style.color, linestyle=style.line, linewidth=1.4)
        panels[0].stairs(density, edges, fill=True, color=style.color, alpha=0.15)
        line = panels[0].stairs(density, edges, **look)
        lost = arrays[name].size - mine.size
        return line, f"{name} ({mine.size}{f', {lost} not finite' if lost else ''})"

    def finish(panels):
        panels[0].set_ylabel("density")
        panels[0].set_xlabel(label)

    return _figure(arrays, draw, finish, (1,), title, "", "scores")


def _pooled(bins):
    """Bins without the axes before their own."""
    lead = np.ndim(bins.counts) - 1

    def total(a, own):
        return np.asarray(a).reshape(-1, *np.shape(a)[np.ndim(a) - own :]).sum(0)

    counts, hits, likely = (total(a, 1) for a in bins[:3])
    return metrics.CalibrationBins(
        counts,
        hits,
        likely,
        total(bins.digits, np.ndim(bins.digits) - lead),
        np.asarray(bins.invalid).sum(),
    )


def _figure(
    names: Mapping[str, Any],
    draw: Callable[[Sequence[Any], str, Any], tuple],
    finish: Callable[[Sequence[Any]], None],
    heights: Sequence[float],
    title: str | None,
    notes: str,
    what: str,
) -> Any:
    """Panels below each other for each group of names, with its legend."""
    import matplotlib

    if not names:
        raise ValueError(f"{what} is empty, expected at least one")
    with matplotlib.rc_context(figures._LOOK):
        groups = split(list(names), ENTRIES)
        down = len(heights) * len(groups)
        size = (_SIZE[0], _SIZE[1] / len(heights) * (1.3 if len(heights) > 1 else 1))
        figure = figures._figure(size, 1, down, title)
        grid = figure.subplots(
            down, sharex=True, squeeze=False, height_ratios=[*heights] * len(groups)
        )[:, 0]
        legends = []
        for at, group in enumerate(groups):
            panels = grid[at * len(heights) : (at + 1) * len(heights)]
            styles = figures.styles_of(names, group)
            entries = [draw(panels, name, style) for name, style in styles.items()]
            finish(panels)
            legends.append((panels[0], entries))
        figure.align_ylabels()
        add_legends(figure, legends, notes)
    return figure
