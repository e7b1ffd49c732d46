"""Runs whose workdir is in a bucket, for which a server on loopback stands."""

import datetime
import importlib.util
import json
import os
import re
import signal
import time

import numpy as np
import pytest
from harness import pods, toy
from harness import storage as storages
from harness.others import LONG, ends_well, start

from logitlab import data, report, train
from logitlab.train import Study, WorkdirError, _buckets, checkpoints, files
from logitlab.train._locks import InUse, hold
from logitlab.train.checkpoints import Checkpoints

if importlib.util.find_spec("gcsfs") is None:
    pytest.skip("gcsfs is missing: pip install -e '.[gcs]'", allow_module_level=True)

RUN = "gs://bucket/some/run"
MINUTE = datetime.timedelta(seconds=61)


@pytest.fixture(scope="module")
def server():
    """One for all tests: clients remember the address that they saw first."""
    with storages.serving() as (storage, url), pytest.MonkeyPatch.context() as patch:
        settings = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "NO_GCE_CHECK": "true",  # or it waits for a server of credentials
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would ask Google
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        yield storage


@pytest.fixture
def storage(server):
    server.buckets = {"bucket": {}, "other": {}}
    server.denied, server.readonly, server.created = set(), set(), []
    server.later = datetime.timedelta()
    return server


def text(storage, name):
    return storage.buckets["bucket"][f"some/run/{name}"].data.decode()


def names(storage):
    with storage.lock:
        return {name.removeprefix("some/run/") for name in storage.buckets["bucket"]}


def events(lines):
    return [json.loads(line)["event"] for line in lines.splitlines()]


def never(params, batch, key):
    raise AssertionError("compiled")


def test_a_bucket_holds_what_a_folder_does(config, storage, tmp_path):
    study = Study(
        {
            "a": toy.run(),
            "closed form": train.Compute(lambda key: {"loss": 0.5, "curve": [1, 2]}),
        },
        figures={"loss": report.curves("loss")},
        claims=[
            report.Claim(
                "so", question=True, ours=lambda r: 1.0, at_least=0.5, over="all"
            )
        ],
        table=lambda results: [{"arm": "a", "loss": 1.5}],
    )
    for workdir in (tmp_path, RUN):
        results = train.run_study(study, config, workdir, quiet=True)
        report.conclude(study, results, config, workdir)
        assert results["a"].arrays["w"].shape == (2, 3)
        np.testing.assert_array_equal(
            results["closed form"].arrays["curve"], [[1, 2]] * 2
        )
    same = ("config.json", "metrics.csv", "claims.json", "table.csv")
    for name in same:
        assert text(storage, name) == (tmp_path / name).read_text()
    figure = storage.buckets["bucket"]["some/run/figures/loss.png"].data
    assert figure == (tmp_path / "figures/loss.png").read_bytes()
    here = {path.name for path in tmp_path.glob("*.*")}
    assert here <= names(storage)
    assert "lock" not in names(storage)
    assert events(text(storage, "log.jsonl")) == events(
        (tmp_path / "log.jsonl").read_text()
    )
    assert report.read_claims(f"{RUN}/claims.json") == report.read_claims(
        tmp_path / "claims.json"
    )
    again = Study({"a": toy.run(loss=never), "closed form": study.arms["closed form"]})
    train.run_study(again, config, RUN, quiet=True)
    assert text(storage, "metrics.csv") == (tmp_path / "metrics.csv").read_text()
    assert events(text(storage, "log.jsonl"))[-2:] == ["run", "end"]
    with config.unlocked():
        config.checkpoint.keep = 5
    with pytest.raises(WorkdirError, match=r"checkpoint.keep: 2 there, 5 here"):
        train.run_study(study, config, RUN, quiet=True)
    assert storage.created == []


def test_a_killed_run_goes_on(config, storage, tmp_path):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.3
    settings = json.dumps(config.to_dict())
    ends_well(start(LONG, str(tmp_path), settings, "600"))
    process = start(LONG, RUN, settings, "600")
    while process.poll() is None and not any(
        re.fullmatch(r"checkpoints/a/\d+/commit_success.txt", name)
        for name in names(storage)
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "lock" in names(storage)
    at = text(storage, "metrics.csv").count("\n")
    refused = start(LONG, RUN, settings, "600")
    assert f"is in use by process {process.pid} on" in refused.communicate()[1]
    storage.later += MINUTE
    ends_well(start(LONG, RUN, settings, "600"))
    assert "resumed" in events(text(storage, "log.jsonl"))
    assert text(storage, "metrics.csv") == (tmp_path / "metrics.csv").read_text()
    assert text(storage, "metrics.csv").count("\n") > at
    whole, parts = (
        checkpoints.read(path / "checkpoints/a", 600, "params")["w"]
        for path in (tmp_path, files.as_path(RUN))
    )
    np.testing.assert_array_equal(whole, parts)


def test_a_run_in_use_names_its_holder(config, storage):
    path, study = files.as_path(RUN), Study({"a": toy.run(loss=never)})
    named = (
        rf"is in use by process {os.getpid()} on .* since 20.* \(last heard of \d+ s"
    )
    with hold(path), pytest.raises(WorkdirError, match=named) as refused:
        train.run_study(study, config, RUN, quiet=True)
    assert "\n" not in str(refused.value)
    assert not names(storage)
    with hold(path, shared=True), pytest.raises(InUse), hold(path):
        pass
    with hold(path), pytest.raises(InUse), hold(path, shared=True):
        pass
    assert not names(storage)


def test_a_lock_is_kept_and_lapses(storage, monkeypatch):
    monkeypatch.setattr(_buckets, "LAPSES", 0.6)
    path = files.as_path(RUN)
    with hold(path):
        time.sleep(1.5)  # longer than it lasts without signs of life
        with pytest.raises(InUse), hold(path):
            pass
    with hold(path):  # and given back
        storage.later += MINUTE
        with hold(path):  # as though this process had slept
            pass
        while not _buckets.lost:
            time.sleep(0.01)
    _buckets.lost.clear()


def test_who_lost_the_lock_writes_no_more(config, storage):
    def stop(numbers):
        """As though this process had slept, and another one had begun."""
        storage.put("bucket", "some/run/lock", b'{"pid": 1}')
        while not _buckets.lost:
            time.sleep(0.01)
        return False

    monkey = pytest.MonkeyPatch()
    monkey.setattr(_buckets, "LAPSES", 0.6)
    study = Study({"a": toy.run(stop=stop, evaluate_at=(0, 20))})
    with monkey.context(), pytest.raises(WorkdirError, match="another process took"):
        train.run_study(study, config, RUN, quiet=True)
    monkey.undo()
    assert text(storage, "lock") == '{"pid": 1}'
    assert not {n for n in names(storage) if "checkpoints" in n}
    _buckets.lost.clear()


def test_arms_are_shared(config, storage):
    study = Study({name: toy.run() for name in "ab"})
    results = train.run_study(study, config, RUN, share=True, quiet=True)
    assert results["b"].arrays["w"].shape == (2, 3)
    assert text(storage, "metrics.csv").count("\n") == 1 + 2 * 4 * 2
    assert not {name for name in names(storage) if "lock" in name}
    with pytest.raises(WorkdirError, match="was begun with --share"):
        train.run_study(study, config, RUN, quiet=True)


def test_tensorboard_and_traces(config, storage):
    with config.unlocked():
        config.tensorboard = True
    for steps in (20, 30):
        study = Study({"a": toy.run(steps=steps)})
        train.run_study(study, config, RUN, profile=(3, 5), quiet=True)
    boards = {name for name in names(storage) if name.startswith("tensorboard/a/")}
    assert {name.split("/")[2] for name in boards} == {"seed_3", "seed_4"}
    assert len(boards) == 2  # those of the first call were replaced
    assert any(name.startswith("profile/a/") for name in names(storage))


def two_checkpoints():
    """The folder of two checkpoints in the bucket, and what both hold."""
    folder, state = (
        files.as_path(f"{RUN}/checkpoints/a"),
        {"w": np.zeros(4, np.float32)},
    )
    with Checkpoints(folder) as made:
        for step in (1, 2):
            made.save(step, state, {"n": step})
    return folder, state


def test_a_damaged_checkpoint(storage):
    folder, state = two_checkpoints()
    objects = storage.buckets["bucket"]
    name = next(n for n in objects if n.startswith("some/run/checkpoints/a/2/state/d/"))
    storage.put("bucket", name, objects[name].data[:-1] + b"!")
    with Checkpoints(folder) as made:
        with pytest.warns(UserWarning, match="deleted a damaged checkpoint"):
            assert made.latest() == (1, {"n": 1})
        np.testing.assert_array_equal(made.restore(1, state)["w"], state["w"])
    assert not {n for n in objects if n.startswith("some/run/checkpoints/a/2/")}


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("gs://nowhere/run", "there is no bucket 'nowhere'"),
        ("gs://denied/run", "Forbidden.*no rights to denied"),
        ("gs://readonly/run", "Forbidden.*no rights to write to readonly"),
    ],
)
def test_buckets_without_rights(config, storage, workdir, message):
    storage.buckets |= {"denied": {}, "readonly": {}}
    storage.denied, storage.readonly = {"denied"}, {"readonly"}
    with pytest.raises(WorkdirError, match=message) as refused:
        train.run_study(Study({"a": toy.run(loss=never)}), config, workdir, quiet=True)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"cannot use workdir {workdir}: ")
    assert not any(storage.buckets.values())
    assert storage.created == []


def test_what_a_kill_left_of_a_checkpoint(storage):
    """Orbax marks one that is complete, and writes over what is not."""
    folder, state = two_checkpoints()
    objects = storage.buckets["bucket"]
    for name in ("2/commit_success.txt", "2/checksums.json"):
        del objects[f"some/run/checkpoints/a/{name}"]
    with Checkpoints(folder) as made:
        assert made.latest() == (1, {"n": 1})
        made.save(2, state, {"n": 3})
    with Checkpoints(folder) as made:
        assert made.latest() == (2, {"n": 3})


@pytest.mark.slow
def test_two_processes_write_to_a_bucket(config, storage, tmp_path):
    data.prepare("wine", tmp_path / "data")
    with config.unlocked():
        config.mesh = {"data": -1}
        config.checkpoint.every_seconds = 0.5
    settings = {"config": config.to_dict(), "data": str(tmp_path / "data")}
    alone = pods.start(1, workdir=str(tmp_path / "alone"), **settings)
    assert pods.end(alone)[0] == [0]
    stopped = {"stop_at": 7, "signals": {1: signal.SIGTERM}}
    codes, _, errors = pods.end(pods.start(2, workdir=RUN, **stopped, **settings))
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert "lock" not in names(storage)
    codes, _, errors = pods.end(pods.start(2, workdir=RUN, **settings))
    assert codes == [0] * 2, errors
    pods.same(files.as_path(RUN), tmp_path / "alone", 1e-5)


def test_data_in_a_bucket_are_copied_once(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    there = tmp_path / "there"
    data.prepare("wine", there)
    for path in there.rglob("*"):
        if path.is_file():
            name = f"data/{path.relative_to(there).as_posix()}"
            storage.put("bucket", name, path.read_bytes())
    folder = tmp_path / "gs/bucket/data/wine/1.0.0"
    assert data.prepare("wine", "gs://bucket/data") == str(folder)
    copied = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    here, local = (
        data.load("wine", place)["train"] for place in ("gs://bucket/data", there)
    )
    np.testing.assert_array_equal(here["x"], local["x"])
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == copied
    storage.buckets["denied"], storage.denied = {}, {"denied"}
    for name, place, message in [
        ("c4/en", "gs://bucket/data", "'gs://bucket/data': it holds no 'c4/en'"),
        ("wine", "gs://denied/data", "data_dir 'gs://denied/data': Forbidden"),
    ]:
        with pytest.raises(data.UnavailableDataset, match=message):
            data.prepare(name, place)
