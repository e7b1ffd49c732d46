"""Curves of arms that are computed in one call, beside their final numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from logitlab.train import ArmResult

_CURVE = "_curve"


def with_finals(curves: Mapping[str, Any]) -> dict:
    """What an arm leaves of curves [points]: them, and the last number of each.

    >>> with_finals({"reward": np.array([1, 2])})
    {'reward_curve': array([1, 2]), 'reward': np.int64(2)}
    """
    arrays = {f"{name}{_CURVE}": curve for name, curve in curves.items()}
    return arrays | {name: curve[-1] for name, curve in curves.items()}


def drawn(draw: Callable[[Mapping], Any], steps: Sequence[int]) -> Callable:
    """A figure of curves, as ``report.panels`` makes them, of computed arms.

    Args:
      draw: results -> figure.
      steps: of the points of every curve.
    """
    return lambda results: draw(
        {name: _as_curves(name, arm, steps) for name, arm in results.items()}
    )


def _as_curves(name, arm, steps):
    curves = {
        key.removesuffix(_CURVE): np.asarray(array)
        for key, array in arm.arrays.items()
        if key.endswith(_CURVE)
    }
    rows = [
        {"arm": name, "seed": seed, "step": step}
        | {metric: array[place, point] for metric, array in curves.items()}
        for place, seed in enumerate(arm.seeds)
        for point, step in enumerate(steps)
    ]
    return ArmResult(arm.label, arm.seeds, rows)
