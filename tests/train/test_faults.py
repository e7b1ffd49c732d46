"""What goes wrong in a run, done for real: kills, full disks, flipped bytes."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest
from harness import toy
from harness.others import LONG, ends_well, environment, start

from logitlab import train
from logitlab.train import Stream, Study, WorkdirError, _feeding, checkpoints
from logitlab.train._locks import hold
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.writers import Table


def rows(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_the_same(config, tmp_path, kills):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.05
    settings = json.dumps(config.to_dict())
    ends_well(start(LONG, str(tmp_path / "whole"), settings, "600"))
    chance, log = random.Random(0), tmp_path / "parts/metrics.csv"
    for _ in range(kills):
        process, goal = start(LONG, str(tmp_path / "parts"), settings, "600"), rows(log)
        goal += chance.randrange(3, 60)
        while rows(log) < goal and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ends_well(start(LONG, str(tmp_path / "parts"), settings, "600"))
    same_end(tmp_path, 600)


def same_end(folder, steps):
    """Bytes of the rows and bits of the parameters."""
    whole, parts = (
        (folder / name / "metrics.csv").read_bytes() for name in ("whole", "parts")
    )
    assert whole == parts
    ends = [
        checkpoints.read(folder / name / "checkpoints/a", int(steps), "params")["w"]
        for name in ("whole", "parts")
    ]
    np.testing.assert_array_equal(*ends)


def test_two_runs_in_one_workdir(config, tmp_path):
    holding = """
        import pathlib, sys, time
        from logitlab.train._locks import hold
        with hold(pathlib.Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(600)
    """
    other = start(holding, str(tmp_path))
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
    with hold(tmp_path):  # and given back
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


SHARED = """
    import json, pathlib, sys, time
    from harness import toy
    from ml_collections import ConfigDict
    from logitlab import train
    from logitlab.train import loop

    append = loop.Logs.append

    def slowly(self, rows, timing=None):
        append(self, rows, timing)
        print(rows[0]["arm"], flush=True)
        time.sleep(0.1)

    loop.Logs.append = slowly
    config = ConfigDict(json.loads(sys.argv[2])).lock()
    arms = {name: toy.run(evaluate_at=range(21)) for name in "abcd"}
    train.run_study(
        train.Study(arms), config, pathlib.Path(sys.argv[1]), share=True, quiet=True
    )
"""


@pytest.mark.slow
def test_processes_that_share_a_workdir(config, tmp_path):
    arms = {name: toy.run(evaluate_at=range(21)) for name in "abcd"}
    train.run_study(Study(arms), config, tmp_path / "alone", quiet=True)
    together = tmp_path / "together"
    settings = str(together), json.dumps(config.to_dict())
    first, second = start(SHARED, *settings), start(SHARED, *settings)
    mine = {first.stdout.readline(), second.stdout.readline()}
    assert len(mine) == 2  # not the same arm
    first.send_signal(signal.SIGKILL)  # the second takes over what it had in hand
    first.communicate()
    ends_well(second)
    for name in ("metrics.csv", "config.json"):
        assert (together / name).read_bytes() == (
            tmp_path / "alone" / name
        ).read_bytes()
    assert rows(together / "timing.csv") == rows(tmp_path / "alone/timing.csv")
    results = train.run_study(Study(arms), config, together, share=True, quiet=True)
    assert results["d"].arrays["w"].shape == (2, 3)
    for share, there in [(False, together), (True, tmp_path / "alone")]:
        with pytest.raises(WorkdirError, match="was begun"):
            train.run_study(Study(arms), config, there, share=share, quiet=True)


def test_a_disk_that_fills_up_in_a_run(config, tmp_path):
    """A real one of 1 MB, where users may have mounts of their own."""
    mount = f"mount -t tmpfs -o size=1000k tmpfs {tmp_path} && exec "
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*own, mount + "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts in user namespaces here")
    code = """
        import json, pathlib, sys
        import jax, numpy as np
        from harness import toy
        from ml_collections import ConfigDict
        from logitlab import train
        from logitlab.train.checkpoints import Checkpoints

        workdir = pathlib.Path(sys.argv[1]) / "run"
        config = ConfigDict(json.loads(sys.argv[2])).lock()
        def study():
            noise = lambda key: {"w": jax.random.normal(key, (3,)),
                                 "noise": jax.random.normal(key, (20_000,))}
            return train.Study({"a": toy.run(init=noise, evaluate_at=range(21))})
        try:
            train.run_study(study(), config, workdir, quiet=True)
        except train.WorkdirError as error:
            print(error)
        kept = [p.name for p in (workdir / "checkpoints/a").iterdir()]
        lines = (workdir / "metrics.csv").read_text().splitlines()
        assert len({line.count(",") for line in lines}) == 1, lines
        with Checkpoints(workdir / "checkpoints/a") as saved:
            assert saved.latest() is not None, kept
        # With room again, the same call goes on.
        (workdir.parent / "ballast").unlink()
        result = train.run_study(study(), config, workdir, quiet=True)["a"]
        assert result.steps.tolist() == list(range(21))
    """
    with config.unlocked():
        config.checkpoint.every_seconds = 0.0
        config.seeds = 1
    ballast = f"head -c 600000 /dev/zero > {tmp_path}/ballast && exec "
    command = [*own, mount.replace("exec", "") + ballast + '"$@"', "sh"]
    ran = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        + [json.dumps(config.to_dict())],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "cannot write" in ran.stdout
    assert "No space left" in ran.stdout


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
    study = Study({"a": toy.run(evaluate_at=range(0, 21, 5))})
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


def test_a_source_that_fails_now_and_then(config, tmp_path, monkeypatch):
    monkeypatch.setattr(_feeding, "WAITS", (0, 0, 0))
    batch = {"x": np.ones((4, 3), np.float32), "y": np.ones(4, np.float32)}
    failures = []

    def batches(step):
        for at in range(step, 20):
            if at % 3 == 2 and failures.count(at) < 2:
                failures.append(at)
                raise OSError("the network is down")
            yield batch

    def broken(step):
        if step > 4:
            raise OSError("no such shard")
        yield from [batch] * (5 - step)
        raise OSError("no such shard")

    def study(source):
        run = toy.run(
            data={"train": Stream(source, ahead=4)},
            evaluate=lambda params, parts: {"norm": jnp.abs(params["w"]).sum()},
        )
        return Study({"a": run})

    with pytest.warns(UserWarning, match="trying again to read the batch of step"):
        result = train.run_study(study(batches), config, tmp_path / "1", quiet=True)
    assert failures == [at for at in range(2, 20, 3) for _ in range(2)]
    whole = study(lambda step: iter([batch] * (20 - step)))
    expected = train.run_study(whole, config, tmp_path / "2", quiet=True)["a"]
    np.testing.assert_array_equal(result["a"]["norm"], expected["norm"])
    message = "cannot read the batch of step 5 of arm 'a': no such shard"
    with (
        pytest.warns(UserWarning, match="trying again"),
        pytest.raises(train.DataError, match=message),
    ):
        train.run_study(study(broken), config, tmp_path / "3", quiet=True)


def test_another_config_on_request(config, tmp_path, capsys):
    study = Study({"a": toy.run()})
    train.run_study(study, config, tmp_path, quiet=True)
    with config.unlocked():
        config.checkpoint.keep = 5
    with pytest.raises(WorkdirError, match="keep: 2 there, 5 here"):
        train.run_study(study, config, tmp_path, quiet=True)
    train.run_study(study, config, tmp_path, allow_changes=True, quiet=True)
    assert "checkpoint.keep: 2 there, 5 here" in capsys.readouterr().out
    train.run_study(study, config, tmp_path, quiet=True)  # it is its own now


def test_a_config_that_is_damaged(config, tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WorkdirError, match="cannot use workdir .*Expecting"):
        train.run_study(Study({"a": toy.run()}), config, tmp_path, quiet=True)


@pytest.mark.slow
def test_a_hundred_kills(config, tmp_path):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.05
    settings = json.dumps(config.to_dict())
    ends_well(start(LONG, str(tmp_path / "whole"), settings, "20000"), seconds=3000)
    chance, kills = random.Random(1), 0
    while kills < 100:
        process = start(LONG, str(tmp_path / "parts"), settings, "20000")
        try:
            process.wait(chance.uniform(2, 7))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        if process.returncode == 0 and kills < 100:  # begin again
            same_end(tmp_path, "20000")
            shutil.rmtree(tmp_path / "parts")
    ends_well(start(LONG, str(tmp_path / "parts"), settings, "20000"), seconds=3000)
    same_end(tmp_path, "20000")


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
