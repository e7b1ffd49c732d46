"""Best evaluation of each seed so far, and patience."""

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
        """Records an evaluation; returns which of the active seeds improved.

        Raises:
          ValueError: the evaluation lacks the metric.
        """
        name = self._run.best
        if name is None:
            return [False] * len(self._seeds)
        self.check(numbers)
        sign = -1 if self._run.best_by == "max" else 1
        better = []
        values = numbers[name].astype(float)  # of small ints the negative may not fit
        for seed, value, going in zip(self._seeds, values, active, strict=True):
            before = math.inf if seed.value is None else sign * seed.value
            better.append(bool(going and sign * value < before))
            if better[-1]:
                seed.value, seed.step, seed.since = float(value), step, 0
            elif going:
                seed.since += 1
        return better

    def check(self, numbers: Mapping[str, np.ndarray]) -> None:
        """Raises ``ValueError`` where an evaluation lacks the metric."""
        name = self._run.best
        if name is not None and name not in numbers:
            raise ValueError(
                f"best is {name!r}, expected one of the metrics {sorted(numbers)}"
            )

    def out_of_patience(self, seed: int) -> bool:
        """Whether a seed did not improve for ``run.patience`` evaluations."""
        patience = self._run.patience
        return patience is not None and self._seeds[seed].since >= patience

    def to_json(self) -> list[dict]:
        """The state as JSON, for :meth:`load`."""
        return [dataclasses.asdict(seed) for seed in self._seeds]

    def load(self, value: Sequence[Mapping]) -> None:
        """Restores the state from :meth:`to_json`."""
        self._seeds = [_Seed(**seed) for seed in value]


@dataclasses.dataclass
class _Seed:
    value: float | None = None
    step: int | None = None
    since: int = 0  # evaluations without a better one
