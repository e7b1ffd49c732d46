"""Runs the arms of a study one after another, each resumed where it stopped."""

import contextlib
import json
import os
import pathlib
import socket
import sys
import time

import jax
import numpy as np

from logitlab.train import checkpoints as saved
from logitlab.train import config as configs
from logitlab.train import mesh as meshes
from logitlab.train import processes
from logitlab.train._locks import InUse, hold
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.events import Events
from logitlab.train.files import (
    WorkdirError,
    as_path,
    is_bucket,
    workdir_path,
    write_file,
)
from logitlab.train.loop import NONFINITE, Logs, Window, train
from logitlab.train.program import Program, build_program, check_settings
from logitlab.train.progress import Progress, Signals
from logitlab.train.results import ArmResult
from logitlab.train.step import caster
from logitlab.train.study import Compute, Run, Study
from logitlab.train.writers import KEYS, Table, TensorBoard, rows_of

SHOWN = 10  # differences between configs, at most


def open_workdir(
    workdir: str | os.PathLike, config, *, allow_changes: bool = False
) -> pathlib.Path:
    """Makes the workdir and leaves ``config.json``, or checks the one that is there.

    With ``allow_changes`` another config takes its place, and what is different is
    printed.

    Raises:
      WorkdirError: it holds another config; the message lists the keys that differ, and
        nothing was changed.
    """
    workdir = as_path(workdir)
    path, text = workdir / "config.json", configs.to_json(config)
    try:
        if path.exists():
            before = json.loads(path.read_text("utf-8"))
            now = json.loads(text)
            lines = configs.differences(before, now)
            if not lines:
                return workdir
            if len(lines) > SHOWN:
                lines[SHOWN:] = [f"and {len(lines) - SHOWN} more"]
            changes = "\n  " + "\n  ".join(lines)
            if not allow_changes:
                raise WorkdirError(
                    f"{workdir} holds a run of {_what(before, now)}; choose another "
                    "--workdir, make these equal, or go on with --allow_config_changes:"
                    + changes
                )
            print(f"{workdir} goes on with another config:{changes}")
        elif not is_bucket(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    except (OSError, ValueError) as error:
        raise WorkdirError(f"cannot use workdir {workdir}: {error}") from error
    return workdir


def _what(before, now):
    """What a workdir holds, told apart from what is to be run."""
    names = [(c.get("experiment"), c.get("variant")) for c in (before, now)]
    if None in names[0]:
        return "another config"
    (experiment, variant), mine = names
    held = f"{experiment}, variant {variant!r}"
    if names[0] == mine:
        return f"{held}, with another config"
    return f"{held}, not of {mine[0]}, variant {mine[1]!r}"


def run_study(
    study: Study,
    config,
    workdir: str | os.PathLike,
    *,
    allow_changes: bool = False,
    profile: tuple[int, int] | None = None,
    share: bool = False,
    quiet: bool = False,
) -> dict[str, ArmResult]:
    """Runs every arm that is not done, and reads the results of all.

    An arm that has done its steps goes on when it is asked for more.

    What it needs of the config: ``seed``, ``seeds`` (how many), ``seeds_by``, ``mesh``,
    ``parallel``, ``nonfinite``, ``checkpoint.every_seconds``, ``checkpoint.keep``,
    ``tensorboard``; and, where it has them, ``sharding`` (rules for parameters),
    ``accumulate`` and ``precision``, see :func:`build_program`.

    In a run of several processes all call this alike; the first one writes.

    Args:
      study: what to run.
      config: the locked config that made it.
      workdir: where everything goes; on a file system that all processes see, or in a
        bucket, ``gs://BUCKET/PATH``.
      allow_changes: go on in a workdir of another config.
      profile: first and last step of a window to trace, of each arm, into
        ``workdir/profile``.
      share: other calls, of other processes or machines, may work on the same workdir,
        each on arms that no other has in hand; all must say so. What an arm leaves is
        in ``arms/``, until the last is done and ``metrics.csv`` is put together.
      quiet: no progress bars.

    Raises:
      ValueError: a setting is out of its range, or processes have unequal configs;
        nothing was written.
      WorkdirError: the workdir holds another config, is in use by another process, or
        cannot be written; its bucket is missing, or there are no rights to it; every
        checkpoint of an arm is damaged, or it holds other seeds, parameters or dtypes
        than the arm has now.
      NonFiniteLoss: see :func:`logitlab.train.loop.train`.
      DataError: a training batch cannot be read.
      Interrupted: after SIGINT or SIGTERM; the same call goes on.
    """
    mesh = meshes.make_mesh(config.mesh.to_dict())
    check(study, config, mesh)
    workdir = workdir_path(workdir)
    window = None if profile is None else Window(*profile, workdir / "profile")
    _check_same_everywhere(config)
    with contextlib.ExitStack() as held, processes.naming_who_died():

        def open_and_hold():
            lock = hold(workdir, shared=share)
            if is_bucket(workdir):  # a lock that is refused leaves nothing there
                held.enter_context(lock)
            open_workdir(workdir, config, allow_changes=allow_changes)
            if not is_bucket(workdir):
                held.enter_context(lock)
            _check_sharing(workdir, share)

        processes.in_first(open_and_hold)
        arms = _Arms(study, config, mesh, workdir, window, quiet)
        with Signals().catch() as signals:
            if share:
                return _run_shared(arms, workdir, signals)
            logs = _open_logs(workdir, config, held, mesh)
            for name in study.arms:
                arms.run(name, logs, signals)
            processes.barrier("study")
            logs.event("end")
            arms.say_if_all_were_done()
            return arms.results(logs.tables[0].rows)


def _check_same_everywhere(config):
    """Raises in all processes where one has another config than the first."""
    mine = configs.to_json(config)
    first = processes.in_first(lambda: mine)
    lines = configs.differences(json.loads(first), json.loads(mine))
    others = np.flatnonzero(processes.agree([bool(lines)]))
    if others.size:
        raise ValueError(
            f"the config of process {', '.join(map(str, others))} is not that of "
            "process 0; start all with the same arguments"
            + "".join(f"\n  {line}" for line in lines[:SHOWN])
        )


def _open_logs(folder, config, held, mesh):
    """The tables and the log in a folder, until ``held`` closes."""
    first = processes.is_first()
    table = Table(folder / "metrics.csv", writes=first)
    timing = Table(folder / "timing.csv", ("arm", "step"), writes=first)
    events = Events(folder / "log.jsonl", writes=first)
    tables = [table]
    if config.tensorboard and first:
        tables.append(TensorBoard(folder / "tensorboard"))
    for log in (*tables, timing, events):
        held.enter_context(contextlib.closing(log))
    processes.barrier("logs")  # all have read what there was
    logs = Logs(tables, timing, events)
    logs.event(
        "run",
        host=socket.gethostname(),
        pid=os.getpid(),
        jax=jax.__version__,
        device=jax.devices()[0].device_kind,
        mesh=dict(mesh.shape),
        processes=jax.process_count(),
    )
    return logs


class _Arms:
    """The arms of a study, to be run in any order."""

    def __init__(self, study, config, mesh, workdir, window, quiet):
        self.study, self.config, self.mesh = study, config, mesh
        self._workdir, self._window = workdir, window
        self._seeds = seeds_of(config)
        work = {
            name: ("steps", arm.steps)
            if isinstance(arm, Run)
            else ("seeds", len(self._seeds))
            for name, arm in study.arms.items()
        }
        self.progress = Progress(work, quiet=quiet or not processes.is_first())
        self.done_before: list[str] = []  # arms that had nothing left to do
        self._shared = {}  # compiled programs

    def run(self, name, logs, signals):
        """Runs an arm to its end, if it is not there."""
        signals.raise_if_received()
        arm, config = self.study.arms[name], self.config
        with Checkpoints(self._folder(name), config.checkpoint.keep) as checkpoints:
            latest = checkpoints.latest()
            if latest is not None and self._is_over(name, *latest):
                self.done_before.append(name)
                self.progress.over(name)
                return
            if isinstance(arm, Compute):
                _compute(name, arm, self._seeds, checkpoints, logs, self.progress)
                return
            train(
                name,
                arm,
                program_of(arm, config, self.mesh, self._shared),
                self._seeds,
                checkpoints,
                logs,
                signals,
                save_every=config.checkpoint.every_seconds,
                nonfinite=config.nonfinite,
                profile=self._window,
                progress=self.progress,
            )

    def say_if_all_were_done(self):
        """A line for a workdir in which there was nothing left to do."""
        count = len(self.done_before)
        if count == len(self.study.arms) and not self.progress.quiet:
            arms = "its arm is" if count == 1 else f"all {count} arms are"
            print(f"{self._workdir} is finished: {arms} done", file=sys.stderr)

    def _is_over(self, name, step, meta):
        """Whether there is nothing left to do for an arm; says so if that may surprise.

        Raises:
          WorkdirError: it was run with other seeds.
        """
        seeds, arm = list(self._seeds), self.study.arms[name]
        if (before := meta.get("seeds", seeds)) != seeds:
            raise WorkdirError(
                f"arm {name!r} in {self._workdir} was run with seeds {before}, not "
                f"{seeds}; choose another --workdir"
            )
        if isinstance(arm, Compute):
            return meta["done"]
        said = None
        if step > arm.steps:
            said = f"is at step {step}, beyond the {arm.steps} steps asked for"
        elif not any(meta["active"]) and arm.steps > meta.get("steps", arm.steps):
            said = f"does not go on to step {arm.steps}: all its seeds ended by {step}"
        if said and processes.is_first():
            print(f"arm {name!r} {said}")
        return step >= arm.steps or not any(meta["active"])

    def results(self, rows):
        """The results of each arm, from the rows of ``metrics.csv``."""
        return {
            name: ArmResult(
                self.study.labels.get(name, name),
                self._seeds,
                [row for row in rows if row["arm"] == name],
                _reader(self._folder(name), arm),
            )
            for name, arm in self.study.arms.items()
        }

    def _folder(self, name):
        return self._workdir / "checkpoints" / name


def program_of(run: Run, config, mesh, shared: dict, *, shapes_only=False) -> Program:
    """The program of an arm, with the settings of a config."""
    return build_program(
        run,
        seeds_of(config),
        mesh,
        seeds_by=config.seeds_by,
        parallel=config.parallel,
        sharding=config.get("sharding", ()),
        accumulate=config.get("accumulate", 1),
        precision=config.get("precision", ""),
        skip_nonfinite=config.nonfinite == "skip",
        shared=shared,
        shapes_only=shapes_only,
    )


def seeds_of(config) -> tuple[int, ...]:
    """The seeds that a config asks for."""
    return tuple(range(config.seed, config.seed + config.seeds))


def _run_shared(arms, workdir, signals):
    """Runs arms that nobody else has in hand, until there are none left."""
    waiting = list(arms.study.arms)
    while waiting:
        before = len(waiting)
        for name in tuple(waiting):
            folder = workdir / "arms" / name
            with contextlib.ExitStack() as held:
                if processes.in_first(lambda: _claimed(folder, held)):  # noqa: B023
                    logs = _open_logs(folder, arms.config, held, arms.mesh)
                    arms.run(name, logs, signals)
                    processes.barrier(name)
                    waiting.remove(name)
        if len(waiting) == before:
            signals.raise_if_received()
            time.sleep(1)  # others are at it; should one die, its arm is free again
    arms.say_if_all_were_done()
    rows = processes.in_first(lambda: _put_together(workdir, list(arms.study.arms)))
    return arms.results(rows)


def _claimed(folder, held):
    try:
        held.enter_context(hold(folder))
    except InUse:
        return False
    return True


def _put_together(workdir, names):
    """Makes the tables of the whole from those of the arms; returns the rows."""
    for file, keys in (("timing.csv", ("arm", "step")), ("metrics.csv", KEYS)):
        parts = [Table(workdir / "arms" / name / file, keys) for name in names]
        whole = Table(workdir / file, keys)
        whole.replace([row for part in parts for row in part.rows])
    return whole.rows


def _check_sharing(workdir, share):
    if share and not (workdir / "arms").exists() and (workdir / "metrics.csv").exists():
        raise WorkdirError(f"{workdir} was begun by a run that does not --share it")
    if (workdir / "arms").exists() and not share:
        raise WorkdirError(f"{workdir} was begun with --share; go on with it")


def check(study: Study, config, mesh) -> None:
    """Raises early for settings that would fail once the workdir is bound to them."""
    least = {"seeds": config.seeds, "checkpoint.keep": config.checkpoint.keep}
    least["accumulate"] = config.get("accumulate", 1)
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if config.nonfinite not in NONFINITE:
        raise ValueError(
            f"nonfinite is {config.nonfinite!r}, expected one of {NONFINITE}"
        )
    rules = config.get("sharding", ())
    check_settings(mesh, config.seeds_by, config.parallel, rules)
    caster(config.get("precision", ""))
    if rules:
        runs = [arm for arm in study.arms.values() if isinstance(arm, Run)]
        shapes = [jax.eval_shape(run.init, jax.random.key(0)) for run in runs]
        meshes.check_rules(shapes, rules)
        for params in shapes:
            meshes.rule_shardings(params, mesh, rules)


def _compute(name, arm, seeds, checkpoints, logs, progress):
    """Numbers go to the table, arrays to the arm's checkpoint."""
    logs.drop_after(name, -1)
    start, values = time.perf_counter(), []
    with contextlib.closing(progress.bar(name, len(seeds), compiles=False)) as bar:
        for seed in seeds:
            made = arm.values(jax.random.key(seed))
            values.append({k: np.asarray(v) for k, v in made.items()})
            bar.update(len(values))
    stacked = {k: np.stack([v[k] for v in values]) for k in values[0]}
    numbers = {k: v for k, v in stacked.items() if v.ndim == 1}
    seconds = round(time.perf_counter() - start, 3)
    logs.append(
        rows_of(name, seeds, [True] * len(seeds), 0, numbers),
        {"arm": name, "step": 0, "seconds": seconds},
    )
    logs.event("computed", arm=name, seconds=seconds)
    arrays = {k: v for k, v in stacked.items() if v.ndim > 1} or {"none": np.zeros(1)}
    logs.sync()
    checkpoints.save(0, arrays, {"done": True, "seeds": list(seeds)})


def _reader(folder, arm):
    """part -> arrays of the arm's last checkpoint."""

    def read(part):
        step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        return saved.read(folder, step, part if isinstance(arm, Run) else None)

    return read
