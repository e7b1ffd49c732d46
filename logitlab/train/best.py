"""The best evaluation of each seed so far, and how long ago it was."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from logitlab.train.study import Run


class Best:
    """Remembers, for each seed, the best value of ``run.best`` and its step.

    What it knows is JSON, and so goes into a checkpoint's meta.
    """

    def __init__(self, run: Run, seeds: int):
        """Nothing was seen yet."""
        self._run, self._seeds = run, [_Seed() for _ in range(seeds)]

    def update(
        self, step: int, numbers: Mapping[str, np.ndarray], active: Sequence[bool]
    ) -> list[bool]:
        """Takes an evaluation of the active seeds; which of them got better.

        Raises:
          ValueError: the evaluation lacks the metric.
        """
        name = self._run.best
        if name is None:
            return [False] * len(self._seeds)
        if name not in numbers:
            raise ValueError(
                f"best is {name!r}, expected one of the metrics {sorted(numbers)}"
            )
        sign = -1 if self._run.best_by == "max" else 1
        better = []
        for seed, value, going in zip(self._seeds, numbers[name], active, strict=True):
            before = math.inf if seed.value is None else sign * seed.value
            better.append(bool(going and sign * value < before))
            if better[-1]:
                seed.value, seed.step, seed.since = float(value), step, 0
            elif going:
                seed.since += 1
        return better

    def out_of_patience(self, seed: int) -> bool:
        """Whether there was nothing better for too long."""
        patience = self._run.patience
        return patience is not None and self._seeds[seed].since >= patience

    def to_json(self) -> list[dict]:
        """What ``load`` takes."""
        return [dataclasses.asdict(seed) for seed in self._seeds]

    def load(self, value: Sequence[Mapping]) -> None:
        """Goes on from what ``to_json`` gave."""
        self._seeds = [_Seed(**seed) for seed in value]


@dataclasses.dataclass
class _Seed:
    value: float | None = None
    step: int | None = None
    since: int = 0  # evaluations without a better one
