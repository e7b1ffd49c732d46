"""The loop: from a run and its seeds to rows in a table and a last checkpoint."""

import dataclasses
import functools
import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from logitlab.train.checkpoints import Checkpoints
from logitlab.train.program import Program
from logitlab.train.progress import Bar, Clock, Interrupted, Signals
from logitlab.train.study import Run
from logitlab.train.writers import Table, rows_of

NONFINITE = ("stop", "end", "skip", "rollback")
ROLLBACKS = 3  # of one arm; what is not finite once more is not bad luck


class NonFiniteLoss(RuntimeError):
    """A loss became infinite or NaN; the message says where, and what was saved."""


@dataclasses.dataclass
class Logs:
    """Where an arm writes: rows to ``tables``, what a clock says to ``timing``."""

    tables: Sequence[Any]
    timing: Table

    def drop_after(self, arm: str, step: int) -> None:
        """Forgets what a run had logged beyond the checkpoint it goes on from."""
        for table in [*self.tables, self.timing]:
            if isinstance(table, Table):
                table.keep(lambda r: r["arm"] != arm or int(r["step"]) <= step)


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
    quiet: bool = False,
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
      quiet: no progress bar.

    Raises:
      ValueError: ``nonfinite`` is out of range.
      NonFiniteLoss: the newest checkpoint stays the last good one. Also after three
        rollbacks, or where every step since the last evaluation was skipped.
      Interrupted: after SIGINT or SIGTERM.
    """
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite is {nonfinite!r}, expected one of {NONFINITE}")
    state = program.init()
    step, active, rollbacks = 0, [True] * len(seeds), 0
    latest = checkpoints.latest()
    if latest is not None:
        step, meta = latest
        state, active = checkpoints.restore(step, like=state), meta["active"]
        rollbacks = meta["rollbacks"]
    logs.drop_after(name, step if latest else -1)
    points = sorted({*run.evaluate_at, run.steps})
    feed = _batches(program, step)
    clock, saved, bar = (
        Clock(),
        time.monotonic(),
        Bar(name, run.steps, step, quiet=quiet),
    )
    ticks = (step, time.perf_counter())
    skipped = (step, np.asarray(jax.device_get(state.skipped)))

    def save():
        done = step == run.steps or not any(active)
        meta = {"active": active, "done": done, "rollbacks": rollbacks}
        checkpoints.save(step, state, meta)

    try:
        log = functools.partial(_log, name, run, program, seeds)
        count = nonfinite == "skip"
        if latest is None and points[0] == 0:
            active = log(state, step, active, logs, bar, count)
        while step < run.steps and any(active):
            signals.raise_if_received()
            target = next(p for p in points if p > step)
            n = clock.chunk(target - step)
            with clock.measure(n):
                data, n = feed(n)
                counts = jnp.asarray([n if a else 0 for a in active], jnp.int32)
                state, loss = program.advance(state, data, counts)
                loss = jax.device_get(loss)
            if nonfinite != "skip" and not np.isfinite(loss).all():
                where = _where(name, seeds, loss, state)
                if nonfinite == "stop" or rollbacks == ROLLBACKS:
                    raise NonFiniteLoss(f"{where}; {_kept(checkpoints)}")
                if nonfinite == "rollback":
                    rollbacks += 1
                    state, step, active = _rolled_back(
                        program, checkpoints, np.isfinite(loss), rollbacks
                    )
                    warnings.warn(f"{where}; back to step {step}", stacklevel=2)
                    logs.drop_after(name, step if step else -1)
                    if not step and points[0] == 0:
                        active = log(state, step, active, logs, bar, count)
                    feed = _batches(program, step)
                    bar.update(step)
                    continue
                warnings.warn(f"{where}; it ends there", stacklevel=2)
                active = (np.isfinite(loss) & active).tolist()
            step += n
            if any(active):
                bar.update(step, {"loss": loss[active].mean()})
            if step == target:
                active = log(state, step, active, logs, bar, count)
                if count:
                    skipped = _check_skipped(name, seeds, state, step, skipped)
                rate = (step - ticks[0]) / (time.perf_counter() - ticks[1])
                logs.timing.append([_timing(name, step, rate)])
                ticks = (step, time.perf_counter())
            if time.monotonic() - saved > save_every:
                save()
                saved = time.monotonic()
    except Interrupted:
        if step:
            save()
        raise
    else:
        save()
    finally:
        bar.close()


def _rolled_back(program, checkpoints, fine, times):
    """The newest checkpoint's state, step and seeds; those that failed draw anew."""
    state, latest = program.init(), checkpoints.latest()
    step, active = 0, [True] * len(fine)
    if latest is not None:
        step, active = latest[0], latest[1]["active"]
        state = checkpoints.restore(step, like=state)
    other = jax.vmap(lambda key: jax.random.fold_in(key, times))(state.key)
    key = jnp.where(jnp.asarray(fine), state.key, other)
    return state._replace(key=jax.device_put(key, state.key.sharding)), step, active


def _check_skipped(name, seeds, state, step, before):
    """Steps and counts now; where nothing but skipping went on, it is no use."""
    count = np.asarray(jax.device_get(state.skipped))
    new, steps = count - before[1], step - before[0]
    pairs = zip(new, seeds, strict=True)
    said = ", ".join(f"{n} with seed {seed}" for n, seed in pairs if n)
    if said:
        what = f"arm {name!r} skipped steps before {step}, not finite: {said}"
        if steps >= 10 and (new == steps).any():
            raise NonFiniteLoss(f"{what}; there were {steps} since {before[0]}")
        warnings.warn(what, stacklevel=3)
    return step, count


def _log(name, run, program, seeds, state, step, active, logs, bar, count=False):
    """Evaluates, writes, and returns which seeds go on."""
    numbers = program.evaluate(state.params)
    if count:
        numbers = numbers | {"skipped": np.asarray(jax.device_get(state.skipped))}
    for table in logs.tables:
        table.append(rows_of(name, seeds, active, step, numbers))
    shown = {k: np.mean(numbers[k]) for k in run.show if k in numbers}
    bar.update(step, shown)
    if run.stop is None:
        return active
    return [
        going and not run.stop({k: float(v[i]) for k, v in numbers.items()})
        for i, going in enumerate(active)
    ]


def _timing(name: str, step: int, rate: float) -> Mapping[str, Any]:
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        "arm": name,
        "step": step,
        "time": round(time.time(), 3),
        "steps_per_second": round(rate, 2),
        "peak_bytes": memory.get("peak_bytes_in_use", ""),
    }


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


def _batches(program: Program, step: int):
    """n -> (training data for the next at most n steps, their number)."""
    if program.stream is None:
        return lambda n: (program.data, n)
    source = iter(program.stream.batches(step))

    def stack(n):
        batches = list(itertools.islice(source, min(n, program.stream.ahead)))
        if not batches:
            raise ValueError(
                "the stream of training batches ended before the last step"
            )
        stacked = jax.tree.map(lambda *rows: np.stack(rows), *batches)
        return program.place(stacked), len(batches)

    return stack
