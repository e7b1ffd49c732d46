"""The runs of the scaling study as points that laws are fitted to."""

import functools
from typing import NamedTuple

import numpy as np

from experiments.scaling import _laws as laws
from logitlab.report import figures

CE = "validation/ce"
COMPONENTS = {
    "error-entropy": "validation/error_entropy",
    "self-alignment": "validation/self_alignment",
    "log confidence": "validation/log_confidence",
}


class Point(NamedTuple):
    """A run, as the law sees it.

    Attributes:
      arm: its name among the results.
      series: runs of one name share a law.
      width: of the model, H.
      parameters: N, with embedding and head.
      without_embedding: N as Kaplan et al. count.
      tokens: D, predictions made in training.
      held_out: whether no law is fitted to it.
    """

    arm: str
    series: str
    width: int
    parameters: int
    without_embedding: int
    tokens: int
    held_out: bool

    @property
    def flops(self) -> float:
        """6 N D, forward and backward."""
        return 6.0 * self.parameters * self.tokens


def finals(points, results, metric=CE):
    """Where the runs ended, [points, seeds]."""
    return np.stack([results[point.arm].final(metric) for point in points])


def by(points, *names):
    """Points that agree in these attributes, in the order in which they come."""
    groups = {}
    for point in points:
        key = tuple(getattr(point, name) for name in names)
        groups.setdefault(key if len(names) > 1 else key[0], []).append(point)
    return groups


def ladder(points):
    """Those that laws are fitted to."""
    return [point for point in points if not point.held_out]


def amount(value):
    """A number as axes and claims call it: 250k, 2M, with a power of ten from 1e8."""
    if value >= 1e8:
        return figures.number_label(value)
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def subsets(points, fit):
    """What a law might as well be fitted to: name -> (points, which N)."""
    chosen = ladder(points)
    low, high = fit.leave_out_below, fit.leave_out_above
    return {
        "all runs": (chosen, "parameters"),
        f"H ≥ {low}": ([p for p in chosen if p.width >= low], "parameters"),
        f"H ≤ {high}": ([p for p in chosen if p.width <= high], "parameters"),
        "N without embedding": (chosen, "without_embedding"),
    }


def fitted(points, results, fit, *, which="parameters"):
    """The law of each seed, fitted to the ladder among the points."""
    return [_law(runs, fit.delta, fit.starts) for runs in _runs(points, results, which)]


def pooled(points, results, fit, *, which="parameters"):
    """The law of all seeds' runs together, and those of resampled runs."""
    runs = np.concatenate(_runs(points, results, which), 1)
    rows = tuple(map(tuple, runs))
    law = _law(rows, fit.delta, fit.starts)
    return law, _resampled(rows, fit.delta, fit.starts, fit.resamples)


def _runs(points, results, which):
    chosen = ladder(points)
    n = tuple(float(getattr(point, which)) for point in chosen)
    d = tuple(float(point.tokens) for point in chosen)
    return [(n, d, tuple(column)) for column in finals(chosen, results).T.tolist()]


@functools.cache
def _law(runs, delta, starts):
    some = laws.GRID[:: -(-len(laws.GRID) // starts)]
    return laws.fit_law(*runs, delta=delta, starts=some)


@functools.cache
def _resampled(runs, delta, starts, resamples):
    law = _law(runs, delta, starts)
    return laws.bootstrap_laws(*runs, law, resamples=resamples, delta=delta)
