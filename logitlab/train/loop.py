"""The training loop: evaluations to rows of a table, state to checkpoints."""

import dataclasses
import math
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from logitlab.train import processes
from logitlab.train._best import Best
from logitlab.train._feeding import Feeding
from logitlab.train._hardware import peak_bytes, peak_flops
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.events import Events
from logitlab.train.files import LocalFolder
from logitlab.train.program import Program
from logitlab.train.progress import Clock, Interrupted, Progress, Signals
from logitlab.train.study import Run
from logitlab.train.writers import Table, rows_of

NONFINITE = ("stop", "end", "skip", "rollback")
ROLLBACKS = 3  # of one arm; what is not finite once more is not bad luck


class NonFiniteLoss(RuntimeError):
    """A loss became infinite or NaN; the message says where, and what was saved."""


@dataclasses.dataclass
class Logs:
    """Where an arm writes: metrics to ``tables``, wall times to ``timing``."""

    tables: Sequence[Any]  # one of the first kind before any of TensorBoard
    timing: Table
    events: Events

    def append(self, rows: Sequence[Mapping], timing: Mapping | None = None) -> None:
        """Adds rows everywhere; where they cannot be written, all processes raise."""

        def add():
            for table in self.tables:
                table.append(rows)
            if timing is not None:
                self.timing.append([timing])

        if not processes.is_first():
            add()  # what the others hold stays in memory
        processes.in_first(add)

    def sync(self) -> None:
        """Waits until all rows are written, without which no checkpoint counts."""

        def sync():
            for log in [*self.tables, self.timing, self.events]:
                log.sync()

        processes.in_first(sync)

    def event(self, name: str, **fields) -> None:
        """Notes what happened."""
        processes.in_first(lambda: self.events(name, **fields))

    def drop_after(self, arm: str, step: int) -> None:
        """Forgets what a run had logged beyond the checkpoint it goes on from."""
        kept = []
        for table in [self.timing, *self.tables]:
            if isinstance(table, Table):
                table.keep(lambda r: r["arm"] != arm or int(r["step"]) <= step)
                kept = [row for row in table.rows if row["arm"] == arm]
            else:
                table.replace(arm, kept)  # those of the table before it


@dataclasses.dataclass(frozen=True)
class Window:
    """Steps to trace with JAX's profiler, from ``start`` to ``stop``."""

    start: int
    stop: int
    folder: pathlib.Path

    def __post_init__(self):
        if not 0 <= self.start < self.stop:
            raise ValueError(
                f"profile is {self.start}:{self.stop}, expected steps START:STOP"
            )


def train(
    name: str,
    run: Run,
    program: Program,
    seeds: Sequence[int],
    checkpoints: Checkpoints,
    logs: Logs,
    signals: Signals,
    *,
    save_every: float = 60.0,
    nonfinite: str = "stop",
    profile: Window | None = None,
    progress: Progress,
) -> None:
    """Runs an arm to its end, from its newest checkpoint if there is one.

    Between two evaluations the host is not asked for anything but to dispatch again
    about twice a second, for the progress bar, for signals and for checkpoints.

    Args:
      name: of the arm.
      run: what to train.
      program: its compiled pieces.
      seeds: the seeds of the program.
      checkpoints: where the state goes every ``save_every`` seconds and at the end.
      logs: where the numbers go.
      signals: a received one saves the state, then raises ``Interrupted``.
      save_every: seconds between checkpoints.
      nonfinite: what an infinite or NaN loss does: ``stop`` the run; ``end`` that seed
        with a warning, its last evaluation being what there is of it; ``skip`` the
        step, for a program that does, and count it in the column ``skipped``; or
        ``rollback`` to the newest checkpoint, from where that seed draws other random
        numbers and, if its data are not streamed, another order.
      profile: steps to trace.
      progress: of the study, where the arm's bar is shown.

    Raises:
      ValueError: ``nonfinite`` is out of range.
      NonFiniteLoss: the newest checkpoint stays the last good one. Also after three
        rollbacks, or where every step since the last evaluation was skipped.
      Interrupted: after SIGINT or SIGTERM.
      DataError: a batch cannot be read.
    """
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite is {nonfinite!r}, expected one of {NONFINITE}")
    _Training(
        name, run, program, seeds, checkpoints, logs, save_every, nonfinite, profile
    ).go(signals, progress)


class _Training:
    """One arm in training: ``state``, ``step`` and whatever else a checkpoint holds."""

    def __init__(
        self, name, run, program, seeds, checkpoints, logs, every, nonfinite, profile
    ):
        self.name, self.run, self.program, self.seeds = name, run, program, seeds
        self.checkpoints, self.logs, self.save_every = checkpoints, logs, every
        self.nonfinite, self.profile = nonfinite, profile
        self.points = sorted({*run.evaluate_at, run.steps})
        window = (profile.start, profile.stop) if profile else ()
        self.marks = sorted({*self.points, *(s for s in window if s < run.steps)})
        self.rollbacks, self.skipped = 0, None
        self.ended: dict[str, None] = {}  # why seeds ended before the last step
        self.clock, self.tracing = Clock(), False

    def go(self, signals, progress):
        """Trains from the newest checkpoint to the last step."""
        found = self._resume()
        self._check_metrics()
        self.saved = time.monotonic()
        self.bar = progress.bar(self.name, self.run.steps, self.step)
        verb = "started" if found is None else "resumed"
        self.logs.event(verb, arm=self.name, step=self.step, seeds=list(self.seeds))
        try:
            self._begin(fresh=found is None)
            while self.step < self.run.steps and any(self.active):
                signals.raise_if_received()
                self._advance()
                if processes.agree([self._due()])[0, 0]:
                    self._save()
        except Interrupted:
            if self.step:
                self._save()
            self.logs.event("interrupted", arm=self.name, step=self.step)
            raise
        else:
            self._save()
            self.logs.event("done", arm=self.name, step=self.step)
        finally:
            self._trace(False)
            early = self.ended if not any(self.active) else ()
            self.bar.close(f"stopped: {', '.join(early)}" if early else "")

    def _resume(self):
        """Restores the newest checkpoint, or makes the initial state."""
        self.state = self.program.init()
        self.step, self.active = 0, [True] * len(self.seeds)
        self.best = Best(self.run, len(self.seeds))
        found = self.checkpoints.latest()
        if found is not None:
            self.step, meta = found
            self.state = self.checkpoints.restore(self.step, like=self.state)
            self.active, self.rollbacks = meta["active"], meta["rollbacks"]
            self.best.load(meta["best"])
        self.logs.drop_after(self.name, self.step if found else -1)
        self.feeding = Feeding(self.name, self.program, self.step)
        self.ticks = None  # the first dispatch compiles
        return found

    def _check_metrics(self):
        """Raises before the first step for metrics that could not be logged."""
        numbers = self.program.example()
        self.best.check(numbers)
        if self.nonfinite == "skip" and "skipped" in numbers:
            raise ValueError(
                f"arm {self.name!r} has a metric 'skipped', which is the name of a "
                "column of the table where nonfinite is 'skip'"
            )
        rows_of(self.name, self.seeds, self.active, self.step, numbers)

    def _begin(self, fresh):
        self.skipped = self.step, self._skips()
        if fresh and self.points[0] == 0:
            self._evaluate()

    def _advance(self):
        """Some steps, at most to the next mark."""
        mark = next(m for m in self.marks if m > self.step)
        n = int(processes.agree([self.clock.chunk(mark - self.step)])[0, 0])
        window = self.profile
        if window and window.start <= self.step < window.stop:
            self._trace(True)
        with self.clock.measure(n):
            data, n = self.feeding.next(n)
            counts = [n if going else 0 for going in self.active]
            self.state, loss = self.program.advance(self.state, data, counts)
            loss = jax.device_get(loss)
        if self.nonfinite != "skip" and not np.isfinite(loss).all():
            self._not_finite(loss)
            if self.nonfinite == "rollback":
                return
        self.step += n
        if any(self.active):
            self.bar.update(self.step, {"loss": _mean(loss[self.active])})
        if window and self.step >= window.stop:
            self._trace(False)
        if self.step in self.points:
            self._evaluate(self._timing())
            if self.nonfinite == "skip":
                self._check_skipped()
        if self.ticks is None or self.step in self.points:
            self.ticks = self.step, time.perf_counter()

    def _evaluate(self, timing=None):
        """Evaluates, writes, and finds out which seeds go on."""
        numbers = self.program.evaluate(self.state.params)
        if self.nonfinite == "skip":
            numbers = numbers | {"skipped": self._skips()}
        rows = rows_of(self.name, self.seeds, self.active, self.step, numbers)
        self.logs.append(rows, timing)
        shown = {k: _mean(numbers[k]) for k in self.run.show if k in numbers}
        self.bar.update(self.step, shown)
        better = self.best.update(self.step, numbers, self.active)
        if any(better):
            self.state = self.program.keep_best(self.state, better)
        for i, going in enumerate(self.active):
            if not going:
                continue
            why = self.run.stop and self.run.stop(
                {k: float(v[i]) for k, v in numbers.items()}
            )
            if not why and self.best.out_of_patience(i):
                why = f"{self.run.best} no better {self.run.patience} times"
            if why:
                self.active[i] = False
                self.ended[why if isinstance(why, str) else "as asked"] = None

    def _due(self):
        return time.monotonic() - self.saved > self.save_every

    def _save(self):
        start = time.perf_counter()
        meta = {
            "active": self.active,
            "done": self.step == self.run.steps or not any(self.active),
            "steps": self.run.steps,
            "seeds": list(self.seeds),
            "rollbacks": self.rollbacks,
            "best": self.best.to_json(),
        }
        self.logs.sync()
        self.checkpoints.save(self.step, self.state, meta)
        self.saved = time.monotonic()
        seconds = round(time.perf_counter() - start, 4)
        self.logs.event("saved", arm=self.name, step=self.step, seconds=seconds)

    def _not_finite(self, loss):
        """Stops, ends the seeds that failed, or goes back."""
        where = _where(self.name, self.seeds, loss, self.state)
        self.logs.event("not finite", arm=self.name, step=self.step, what=where)
        if self.nonfinite == "stop" or self.rollbacks == ROLLBACKS:
            raise NonFiniteLoss(f"{where}; {_kept(self.checkpoints)}")
        if self.nonfinite == "end":
            warnings.warn(f"{where}; it ends there", stacklevel=2)
            self.ended["loss not finite"] = None
            self.active = (np.isfinite(loss) & self.active).tolist()
            return
        times = self.rollbacks + 1
        found = self._resume()
        self.rollbacks = times
        # Those that failed draw anew.
        other = jax.vmap(lambda key: jax.random.fold_in(key, times))(self.state.key)
        key = jnp.where(np.isfinite(loss), self.state.key, other)
        key = jax.device_put(key, self.state.key.sharding)
        self.state = self.state._replace(key=key)
        warnings.warn(f"{where}; back to step {self.step}", stacklevel=2)
        self._begin(fresh=found is None)
        self.bar.update(self.step)

    def _skips(self):
        return np.asarray(jax.device_get(self.state.skipped))

    def _check_skipped(self):
        """Warns of skipped steps; raises where all of ten or more were."""
        (before, old), count = self.skipped, self._skips()
        new, steps = count - old, self.step - before
        pairs = zip(new, self.seeds, strict=True)
        said = ", ".join(f"{n} with seed {seed}" for n, seed in pairs if n)
        if said:
            what = f"arm {self.name!r} skipped steps before {self.step}, not finite"
            if steps >= 10 and (new == steps).any():
                raise NonFiniteLoss(
                    f"{what}: {said}; there were {steps} since {before}"
                )
            warnings.warn(f"{what}: {said}", stacklevel=3)
        self.skipped = self.step, count

    def _trace(self, on):
        if on == self.tracing or not processes.is_first():
            return
        self.tracing = on
        if on:
            self.traces = LocalFolder(self.profile.folder / self.name)
            jax.profiler.start_trace(str(self.traces.folder))
        else:
            jax.profiler.stop_trace()
            self.traces.close()

    def _timing(self):
        rate = math.nan
        if self.ticks is not None:
            rate = (self.step - self.ticks[0]) / (time.perf_counter() - self.ticks[1])
        device = jax.local_devices()[0]
        flops = self.program.step_flops() * rate * np.mean(self.active)
        numbers = {
            "steps_per_second": rate,
            "flops_per_second": flops,  # of one device
            "utilisation": flops / (peak_flops(device) or math.nan),
        }
        return {
            "arm": self.name,
            "step": self.step,
            "time": round(time.time(), 3),
            **{k: f"{v:.4g}" if v == v else "" for k, v in numbers.items()},
            "peak_bytes": peak_bytes(device),
        }


def _mean(values):
    """Of all seeds, to be looked at: in float64, and infinite where one is."""
    with np.errstate(invalid="ignore"):
        return np.mean(values, dtype=np.float64)


def _where(name, seeds, loss, state):
    steps = jax.device_get(state.step)
    bad = [
        f"{loss[i]} at step {steps[i] - 1} with seed {seed}"
        for i, seed in enumerate(seeds)
        if not np.isfinite(loss[i])
    ]
    return f"the loss of arm {name!r} is {', '.join(bad)}"


def _kept(checkpoints):
    latest = checkpoints.latest()
    if latest is None:
        return "there was no checkpoint yet"
    return f"the checkpoint of step {latest[0]} is kept"
