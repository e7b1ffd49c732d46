"""Runs the arms of a study one after another, each resumed where it stopped."""

import contextlib
import json
import pathlib
import time

import jax
import numpy as np

from logitlab.train import config as configs
from logitlab.train import mesh as meshes
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.files import WorkdirError, write_file
from logitlab.train.locks import only_run
from logitlab.train.loop import NONFINITE, Logs, train
from logitlab.train.program import PARALLEL, SEEDS_BY, build_program
from logitlab.train.progress import Signals
from logitlab.train.results import ArmResult
from logitlab.train.study import Compute, Run, Study
from logitlab.train.writers import Table, TensorBoard, rows_of


def open_workdir(workdir: pathlib.Path, config) -> pathlib.Path:
    """Makes the workdir and leaves ``config.json``, or checks the one that is there.

    Raises:
      WorkdirError: it holds another config; the message lists the keys that differ, and
        nothing was changed.
    """
    workdir = pathlib.Path(workdir)
    path, text = workdir / "config.json", configs.to_json(config)
    if path.exists():
        lines = configs.differences(
            json.loads(path.read_text("utf-8")), json.loads(text)
        )
        if lines:
            raise WorkdirError(
                f"{workdir} holds a run of another config; choose another --workdir, "
                "or make these equal:\n  " + "\n  ".join(lines)
            )
        return workdir
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            write_file(path, text)
    except OSError as error:
        raise WorkdirError(f"cannot write to workdir {workdir}: {error}") from error
    return workdir


def run_study(
    study: Study, config, workdir: pathlib.Path, *, quiet: bool = False
) -> dict[str, ArmResult]:
    """Runs every arm that is not done, and reads the results of all.

    What it needs of the config: ``seed``, ``seeds`` (how many), ``seeds_by``, ``mesh``,
    ``parallel``, ``nonfinite``, ``checkpoint.every_seconds``, ``checkpoint.keep``,
    ``tensorboard``.

    Args:
      study: what to run.
      config: the locked config that made it.
      workdir: where everything goes.
      quiet: no progress bars.

    Raises:
      ValueError: a setting is out of its range; nothing was written.
      WorkdirError: the workdir holds another config, is in use by another process, or
        cannot be written; or every checkpoint of an arm is damaged.
      NonFiniteLoss: see :func:`logitlab.train.loop.train`.
      Interrupted: after SIGINT or SIGTERM; the same call goes on.
    """
    _check(config)
    mesh = meshes.make_mesh(config.mesh.to_dict())
    workdir = open_workdir(workdir, config)
    alone = only_run(workdir) if jax.process_index() == 0 else contextlib.nullcontext()
    with alone:
        return _run_arms(study, config, workdir, mesh, quiet)


def _run_arms(study, config, workdir, mesh, quiet):
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    first = jax.process_index() == 0
    table = Table(workdir / "metrics.csv", writes=first)
    timing = Table(workdir / "timing.csv", ("arm", "step"), writes=first)
    board = None
    if config.tensorboard and first:
        board = TensorBoard(workdir / "tensorboard")
    logs = Logs([table, *([board] if board else [])], timing)
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
                            quiet=quiet,
                        )
            rows = [row for row in table.rows if row["arm"] == name]
            results[name] = ArmResult(
                study.labels.get(name, name), seeds, rows, _loader(folder, arm)
            )
    if board:
        board.close()
    return results


def _check(config):
    """Refuses what would fail only after the workdir was bound to it."""
    least = {"seeds": config.seeds, "checkpoint.keep": config.checkpoint.keep}
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    known = {"parallel": PARALLEL, "seeds_by": SEEDS_BY, "nonfinite": NONFINITE}
    for name, choices in known.items():
        if config[name] not in choices:
            raise ValueError(f"{name} is {config[name]!r}, expected one of {choices}")


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
    for table in logs.tables:
        table.append(rows_of(name, seeds, [True] * len(seeds), 0, numbers))
    seconds = round(time.perf_counter() - start, 3)
    logs.timing.append([{"arm": name, "step": 0, "seconds": seconds}])
    arrays = {k: v for k, v in stacked.items() if v.ndim > 1} or {"none": np.zeros(1)}
    checkpoints.save(0, arrays, {"done": True})


def _loader(folder, arm):
    def load():
        with Checkpoints(folder) as checkpoints:
            step, _ = checkpoints.latest()
            arrays = checkpoints.restore(step)
        return arrays["params"] if isinstance(arm, Run) else arrays

    return load
