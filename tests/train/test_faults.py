"""What goes wrong in a run, done for real: kills, full disks, flipped bytes."""

import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest
import toy

from logitlab import train
from logitlab.train import Study, WorkdirError, checkpoints
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.locks import only_run
from logitlab.train.writers import Table

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
LONG = """
    import pathlib, sys
    import toy
    from ml_collections import ConfigDict
    from logitlab import train

    config = ConfigDict(json.loads(sys.argv[2])).lock()
    steps = 600
    run = toy.run(steps=steps, evaluate_at=range(0, steps + 1, 5), batch_size=4)
    train.run_study(train.Study({"a": run}), config, pathlib.Path(sys.argv[1]))
"""


def start(code, *arguments):
    """A process that can import what the tests can."""
    path = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", "import json\n" + textwrap.dedent(code), *arguments],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends_well(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def rows(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_at_random_moments_it_ends_the_same(config, tmp_path):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.05
    settings = json.dumps(config.to_dict())
    ends_well(start(LONG, str(tmp_path / "whole"), settings))
    chance, log = random.Random(0), tmp_path / "parts/metrics.csv"
    for _ in range(3):
        process, goal = start(LONG, str(tmp_path / "parts"), settings), rows(log)
        goal += chance.randrange(3, 60)
        while rows(log) < goal and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ends_well(start(LONG, str(tmp_path / "parts"), settings))
    assert log.read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()
    ends = [
        Checkpoints(tmp_path / name / "checkpoints/a").restore(600)["params"]["w"]
        for name in ("whole", "parts")
    ]
    np.testing.assert_array_equal(*ends)


def test_two_runs_in_one_workdir(config, tmp_path):
    hold = """
        import pathlib, sys, time
        from logitlab.train.locks import only_run
        with only_run(pathlib.Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(600)
    """
    other = start(hold, str(tmp_path))
    assert other.stdout.readline() == "held\n"
    study = Study({"a": toy.run()})
    message = f"is in use by process {other.pid} on .* choose another --workdir"
    with pytest.raises(WorkdirError, match=message):
        train.run_study(study, config, tmp_path, quiet=True)
    assert not (tmp_path / "metrics.csv").exists()
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert (tmp_path / "lock").exists()  # stale, and in nobody's way
    train.run_study(study, config, tmp_path, quiet=True)
    with only_run(tmp_path):  # and given back
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def two_checkpoints(folder):
    with Checkpoints(folder) as saved:
        for step in (1, 2):
            saved.save(step, {"w": jnp.arange(1000.0) + step}, {"done": False})


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def largest(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


DAMAGE = {
    "a flipped bit": flip,
    "a cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a missing file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path, kind):
    two_checkpoints(tmp_path)
    DAMAGE[kind](largest(tmp_path / "2"))
    with Checkpoints(tmp_path) as saved:
        with pytest.warns(
            UserWarning, match="deleted a damaged .*going on from step 1"
        ):
            step, meta = saved.latest()
        assert (step, meta) == (1, {"done": False})
        np.testing.assert_array_equal(saved.restore(1)["w"], np.arange(1000.0) + 1)
        saved.save(2, {"w": jnp.zeros(3)}, {"done": True})
    with Checkpoints(tmp_path) as saved:
        assert saved.latest() == (2, {"done": True})


def test_a_run_goes_on_from_the_checkpoint_before(config, tmp_path):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.0
    study = Study({"a": toy.run(evaluate_at=range(21))})
    whole = train.run_study(study, config, tmp_path, quiet=True)
    before = (tmp_path / "metrics.csv").read_bytes()
    flip(largest(tmp_path / "checkpoints/a/20"))
    with pytest.warns(UserWarning, match="deleted a damaged checkpoint"):
        again = train.run_study(study, config, tmp_path, quiet=True)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    np.testing.assert_array_equal(whole["a"].arrays["w"], again["a"].arrays["w"])


def test_no_checkpoint_is_whole(tmp_path):
    two_checkpoints(tmp_path)
    for step in ("1", "2"):
        flip(largest(tmp_path / step))
    with (
        Checkpoints(tmp_path) as saved,
        pytest.raises(WorkdirError, match="every checkpoint is damaged; delete them"),
    ):
        saved.latest()
    assert (tmp_path / "2").exists()  # left to be looked at


def test_checkpoints_of_another_format(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT", 0)
        two_checkpoints(tmp_path)
    with (
        Checkpoints(tmp_path) as saved,
        pytest.raises(WorkdirError, match="is of checkpoint format 0, this version"),
    ):
        saved.latest()


@pytest.fixture
def no_room(request):
    """Lets no file grow beyond a size, as a full disk does."""

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        request.addfinalizer(
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        )

    return limit


def test_a_row_that_finds_no_room_is_taken_back(tmp_path, no_room):
    table = Table(tmp_path / "m.csv")
    table.append([{"arm": "a", "seed": 0, "step": 0, "loss": 1.0}])
    before = table.path.read_bytes()
    no_room(len(before) + 5)  # a part of the next row fits
    with pytest.raises(
        WorkdirError, match="cannot write to .*; it is as it was before"
    ):
        table.append([{"arm": "a", "seed": 0, "step": 1, "loss": 2.0}])
    with pytest.raises(WorkdirError, match="cannot write to"):
        table.append([{"arm": "a", "seed": 0, "step": 1, "new": 2.0}])
    assert table.path.read_bytes() == before
    assert table.columns == ["arm", "seed", "step", "loss"]
    assert len(table.rows) == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_checkpoint_that_finds_no_room(tmp_path, no_room):
    with Checkpoints(tmp_path) as saved:
        saved.save(1, {"w": jnp.arange(1000.0)}, {"done": False})
    saved = Checkpoints(tmp_path)
    no_room(10_000)
    noise = np.random.default_rng(0).normal(size=100_000)
    saved.save(2, {"w": jnp.asarray(noise)}, {"done": False})  # in the background
    with pytest.raises(WorkdirError, match="cannot write a checkpoint to .*untouched"):
        saved.close()
    with Checkpoints(tmp_path) as saved:
        assert saved.latest() == (1, {"done": False})
        np.testing.assert_array_equal(saved.restore(1)["w"], np.arange(1000.0))
