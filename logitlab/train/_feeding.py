"""Feeds training batches to the loop, with retries where a source fails."""

import time
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from logitlab.data import UnreadableRecord
from logitlab.train import processes
from logitlab.train.program import Program

WAITS = (0.1, 0.4, 1.6)  # seconds before a source is asked once more


class DataError(RuntimeError):
    """A training batch cannot be read; the message says which, and why."""


class Feeding:
    """What a program trains on, from a step on: the same data, or streamed batches."""

    def __init__(self, arm: str, program: Program, step: int):
        """``step`` is that of the first batch to come."""
        self._arm, self._program, self._step = arm, program, step
        self._source: Iterator | None = None

    def next(self, n: int) -> tuple[Any, int]:
        """Data on the devices for the next steps, at most ``n``, and their number.

        Raises:
          DataError: a source failed again and again, in this process or another.
          ValueError: the source came to its end.
        """
        stream = self._program.stream
        if stream is None:
            return self._program.data, n
        rows, error = [], None
        try:
            rows = self._read(min(n, stream.ahead))
        except Exception as caught:  # not to leave the other processes waiting
            error = caught
        got = processes.agree([len(rows) if error is None else -1]).min()
        if error is not None:
            raise error
        if got < 0:
            raise DataError("another process could not read its batches")
        if got == 0:
            raise ValueError(
                "the stream of training batches ended before the last step"
            )
        self._step += len(rows)

        def stack(*batches):
            # One shape for all, for the program is compiled once.
            first = np.asarray(batches[0])
            out = np.zeros((stream.ahead, *first.shape), first.dtype)
            out[: len(batches)] = batches
            return out

        return self._program.place(jax.tree.map(stack, *rows)), len(rows)

    def _read(self, n):
        batches, failures = [], 0
        while len(batches) < n:
            step = self._step + len(batches)
            try:
                if self._source is None:
                    self._source = iter(self._program.stream.batches(step))
                batch = next(self._source, None)
            except Exception as error:
                self._source = None  # a generator that raised is at its end
                what = f"the batch of step {step} of arm {self._arm!r}: {error}"
                if failures == len(WAITS) or isinstance(error, UnreadableRecord):
                    raise DataError(f"cannot read {what}") from error
                warnings.warn(f"trying again to read {what}", stacklevel=2)
                time.sleep(WAITS[failures])
                failures += 1
                continue
            if batch is None:
                break
            failures = 0
            batches.append(batch)
        return batches
