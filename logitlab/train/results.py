"""Results of one arm: its metrics over evaluations and seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from logitlab.train.writers import KEYS, number


class ArmResult(Mapping):
    """``result["test/accuracy"]`` is an array (points, seeds), NaN where not logged.

    Attributes:
      label: name in legends.
      seeds: the seeds, in the order of the last axis.
      steps: the step of each point. A computed arm has the single point 0.
    """

    def __init__(
        self,
        label: str,
        seeds: Sequence[int],
        rows: Sequence[Mapping[str, str]],
        arrays: Callable[[str], Mapping] = lambda part: {},
    ):
        """Rows are those of ``metrics.csv``; ``arrays`` loads what it cannot hold."""
        self.label, self.seeds = label, tuple(seeds)
        self.steps = np.array(sorted({int(row["step"]) for row in rows}), int)
        self._load = arrays
        point = {step: i for i, step in enumerate(self.steps.tolist())}
        column = {seed: i for i, seed in enumerate(self.seeds)}
        self._values: dict[Any, Any] = {}
        for row in rows:
            place = point[int(row["step"])], column[int(row["seed"])]
            for name, text in row.items():
                if name in KEYS or text in ("", None):
                    continue
                if name not in self._values:
                    shape = len(self.steps), len(self.seeds)
                    self._values[name] = np.full(shape, np.nan)
                self._values[name][place] = number(text)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def final(self, name: str) -> np.ndarray:
        """The last number of each seed, (seeds,)."""
        values = self[name]
        last = np.where(np.isnan(values), -1, np.arange(len(values))[:, None]).max(0)
        final = np.take_along_axis(values, np.maximum(last, 0)[None], 0)[0]
        return np.where(last < 0, np.nan, final)

    def first_step(self, name: str, at_least: float) -> np.ndarray:
        """The first logged step of each seed with the metric that high, else inf."""
        reached = self[name] >= at_least
        steps = np.where(reached, self.steps[:, None].astype(float), np.inf)
        return steps.min(0, initial=np.inf)

    @property
    def arrays(self) -> Mapping:
        """Arrays (seeds, ...): final parameters of a run, arrays of a computed arm."""
        return self._load("params")

    @property
    def best_arrays(self) -> Mapping:
        """The parameters at each seed's best evaluation, for a run that keeps them."""
        return self._load("best")
