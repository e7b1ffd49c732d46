"""Runs the arms of a study one after another, each resumed where it stopped."""

import contextlib
import json
import pathlib
import socket
import time

import jax
import numpy as np

from logitlab.train import checkpoints as saved
from logitlab.train import config as configs
from logitlab.train import mesh as meshes
from logitlab.train import processes
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.events import Events
from logitlab.train.files import WorkdirError, write_file
from logitlab.train.locks import only_run
from logitlab.train.loop import NONFINITE, Logs, Window, train
from logitlab.train.program import PARALLEL, SEEDS_BY, build_program
from logitlab.train.progress import Signals
from logitlab.train.results import ArmResult
from logitlab.train.study import Compute, Run, Study
from logitlab.train.writers import Table, TensorBoard, rows_of


def open_workdir(
    workdir: pathlib.Path, config, *, allow_changes: bool = False
) -> pathlib.Path:
    """Makes the workdir and leaves ``config.json``, or checks the one that is there.

    With ``allow_changes`` another config takes its place, with a warning that lists
    what is different.

    Raises:
      WorkdirError: it holds another config; the message lists the keys that differ, and
        nothing was changed.
    """
    workdir = pathlib.Path(workdir)
    path, text = workdir / "config.json", configs.to_json(config)
    try:
        if path.exists():
            before = json.loads(path.read_text("utf-8"))
            lines = configs.differences(before, json.loads(text))
            if not lines:
                return workdir
            changes = "\n  " + "\n  ".join(lines)
            if not allow_changes:
                raise WorkdirError(
                    f"{workdir} holds a run of another config; choose another "
                    "--workdir, make these equal, or go on with --allow_config_changes:"
                    + changes
                )
            print(f"{workdir} goes on with another config:{changes}")
        else:
            workdir.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    except (OSError, ValueError) as error:
        raise WorkdirError(f"cannot use workdir {workdir}: {error}") from error
    return workdir


def run_study(
    study: Study,
    config,
    workdir: pathlib.Path,
    *,
    allow_changes: bool = False,
    profile: tuple[int, int] | None = None,
    quiet: bool = False,
) -> dict[str, ArmResult]:
    """Runs every arm that is not done, and reads the results of all.

    What it needs of the config: ``seed``, ``seeds`` (how many), ``seeds_by``, ``mesh``,
    ``parallel``, ``nonfinite``, ``checkpoint.every_seconds``, ``checkpoint.keep``,
    ``tensorboard``; and, where it has them, ``sharding`` (rules for parameters),
    ``accumulate`` and ``precision``, see :func:`build_program`.

    In a run of several processes all call this alike; the first one writes.

    Args:
      study: what to run.
      config: the locked config that made it.
      workdir: where everything goes; on a file system that all processes see.
      allow_changes: go on in a workdir of another config.
      profile: first and last step of a window to trace, of each arm, into
        ``workdir/profile``.
      quiet: no progress bars.

    Raises:
      ValueError: a setting is out of its range; nothing was written.
      WorkdirError: the workdir holds another config, is in use by another process, or
        cannot be written; or every checkpoint of an arm is damaged.
      NonFiniteLoss: see :func:`logitlab.train.loop.train`.
      DataError: a training batch cannot be read.
      Interrupted: after SIGINT or SIGTERM; the same call goes on.
    """
    _check(study, config)
    mesh = meshes.make_mesh(config.mesh.to_dict())
    workdir = pathlib.Path(workdir)
    window = None if profile is None else Window(*profile, workdir / "profile")
    with contextlib.ExitStack() as held:

        def open_and_hold():
            open_workdir(workdir, config, allow_changes=allow_changes)
            held.enter_context(only_run(workdir))

        processes.in_first(open_and_hold)
        logs = _open_logs(workdir, config, held)
        logs.event(
            "run",
            host=socket.gethostname(),
            jax=jax.__version__,
            device=jax.devices()[0].device_kind,
            mesh=dict(mesh.shape),
            processes=jax.process_count(),
        )
        results = _run_arms(
            study,
            config,
            workdir,
            mesh,
            logs,
            window,
            quiet or not processes.is_first(),
        )
        processes.barrier("study")
        logs.event("end")
    return results


def _open_logs(workdir, config, held):
    first = processes.is_first()
    table = Table(workdir / "metrics.csv", writes=first)
    timing = Table(workdir / "timing.csv", ("arm", "step"), writes=first)
    tables = [table]
    if config.tensorboard and first:
        board = TensorBoard(workdir / "tensorboard")
        tables.append(held.enter_context(contextlib.closing(board)))
    processes.barrier("logs")  # all have read what there was
    return Logs(tables, timing, Events(workdir / "log.jsonl", writes=first))


def _run_arms(study, config, workdir, mesh, logs, window, quiet):
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    results = {}
    with Signals().catch() as signals:
        for name, arm in study.arms.items():
            signals.raise_if_received()
            folder = workdir / "checkpoints" / name
            with Checkpoints(folder, config.checkpoint.keep) as checkpoints:
                latest = checkpoints.latest()
                if latest is None or not latest[1]["done"]:
                    if isinstance(arm, Compute):
                        _compute(name, arm, seeds, checkpoints, logs)
                    else:
                        program = build_program(
                            arm,
                            seeds,
                            mesh,
                            seeds_by=config.seeds_by,
                            parallel=config.parallel,
                            sharding=config.get("sharding", ()),
                            accumulate=config.get("accumulate", 1),
                            precision=config.get("precision", ""),
                            skip_nonfinite=config.nonfinite == "skip",
                        )
                        train(
                            name,
                            arm,
                            program,
                            seeds,
                            checkpoints,
                            logs,
                            signals,
                            save_every=config.checkpoint.every_seconds,
                            nonfinite=config.nonfinite,
                            profile=window,
                            quiet=quiet,
                        )
            rows = [row for row in logs.tables[0].rows if row["arm"] == name]
            results[name] = ArmResult(
                study.labels.get(name, name), seeds, rows, _reader(folder, arm)
            )
    return results


def _check(study, config):
    """Refuses what would fail only after the workdir was bound to it."""
    least = {"seeds": config.seeds, "checkpoint.keep": config.checkpoint.keep}
    least["accumulate"] = config.get("accumulate", 1)
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    known = {"parallel": PARALLEL, "seeds_by": SEEDS_BY, "nonfinite": NONFINITE}
    for name, choices in known.items():
        if config[name] not in choices:
            raise ValueError(f"{name} is {config[name]!r}, expected one of {choices}")
    if rules := config.get("sharding", ()):
        runs = [arm for arm in study.arms.values() if isinstance(arm, Run)]
        key = jax.random.key(0)
        meshes.check_rules([jax.eval_shape(run.init, key) for run in runs], rules)


def _compute(name, arm, seeds, checkpoints, logs):
    """Numbers go to the table, arrays to the arm's checkpoint."""
    logs.drop_after(name, -1)
    start = time.perf_counter()
    values = [
        {k: np.asarray(v) for k, v in arm.values(jax.random.key(seed)).items()}
        for seed in seeds
    ]
    stacked = {k: np.stack([v[k] for v in values]) for k in values[0]}
    numbers = {k: v for k, v in stacked.items() if v.ndim == 1}
    seconds = round(time.perf_counter() - start, 3)
    logs.append(
        rows_of(name, seeds, [True] * len(seeds), 0, numbers),
        {"arm": name, "step": 0, "seconds": seconds},
    )
    logs.event("computed", arm=name, seconds=seconds)
    arrays = {k: v for k, v in stacked.items() if v.ndim > 1} or {"none": np.zeros(1)}
    checkpoints.save(0, arrays, {"done": True})


def _reader(folder, arm):
    """part -> arrays of the arm's last checkpoint."""

    def read(part):
        step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        return saved.read(folder, step, part if isinstance(arm, Run) else None)

    return read
