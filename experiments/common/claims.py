"""Claims that one arm is ahead of another."""

from collections.abc import Callable, Sequence

import numpy as np

from logitlab import report


def ahead(
    text: str,
    metric: str,
    arm: str,
    other: str,
    *,
    scale: float = 1.0,
    times: float = 1.0,
    **claim,
) -> report.Claim:
    """A claim on how far an arm ends above another, seed by seed.

    Args:
      text: what is claimed.
      metric: whose final numbers are compared.
      arm: the one that should be ahead.
      other: the one that it is compared with.
      scale: see :func:`logitlab.report.ahead`.
      times: see there.
      **claim: bounds, source and all else of :class:`logitlab.report.Claim`.
    """
    return report.Claim(
        text=text,
        ours=report.ahead(metric, arm, other, scale=scale, times=times),
        needs=(arm, other),
        **claim,
    )


def least_ahead(metrics: Sequence[str], arm: str, other: str) -> Callable:
    """How far an arm ends above another where that is the least, seed by seed."""
    gaps = [report.ahead(metric, arm, other) for metric in metrics]
    return lambda results: np.min([gap(results) for gap in gaps], 0)
