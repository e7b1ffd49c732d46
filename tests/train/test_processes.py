"""Two real processes with two devices each, beside one process with four."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from logitlab.train import checkpoints, processes

# What runs in other processes is compiled as users' programs are.
pytestmark = pytest.mark.optimized

TESTS = pathlib.Path(__file__).parents[1]
ROOT = TESTS.parent
SCRIPT = """
import json, os, pathlib, signal, sys
settings = json.loads(sys.argv[1])
import jax
jax.config.update("jax_num_cpu_devices", 4 // settings["count"])
jax.config.update("jax_enable_x64", True)
import numpy as np
from ml_collections import ConfigDict
from logitlab import data, metrics, train
from logitlab.train import loop, processes
if settings["count"] > 1:
    processes.join(settings["address"], settings["count"], settings["index"])
assert jax.device_count() == 4
from harness import toy

workdir = pathlib.Path(settings["workdir"])
batches = data.stream("wine", "train", 16, seed=0, data_dir=settings["data"])

def wine_init(key):
    return {"kernel": 0.01 * jax.random.normal(key, (13, 4))}

def wine_loss(params, batch, key):
    scores = jax.nn.log_softmax(batch["x"] / 100.0 @ params["kernel"])
    return -scores[jax.numpy.arange(len(scores)), batch["y"]]

streamed = toy.run(
    init=wine_init, loss=wine_loss, data={"train": train.Stream(batches, ahead=4)},
    evaluate=lambda params, data: {"norm": metrics.tree_norm(params)},
)
toys = toy.run(batch_size=4, evaluate_at=range(21), best="loss", patience=9)
study = train.Study({
    "streamed": streamed,
    "toy": toys,
    "closed form": train.Compute(lambda key: {"half": 0.5, "line": np.arange(3.0)}),
})
config = ConfigDict(settings["config"]).lock()
append = loop.Logs.append

def or_a_signal(self, rows, timing=None):
    if rows[0]["arm"] == "toy" and rows[0]["step"] == settings["stop_at"]:
        if processes.is_first() and settings["count"] > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # to one of them alone
    append(self, rows, timing)

loop.Logs.append = or_a_signal
try:
    results = train.run_study(study, config, workdir, quiet=True)
except train.Interrupted as stopped:
    sys.exit(stopped.exit_code)
except train.WorkdirError as error:
    sys.exit(str(error))
print(json.dumps({"steps": results["toy"].steps.tolist()}))
"""


def free_port():
    with socket.socket() as there:
        there.bind(("localhost", 0))
        return there.getsockname()[1]


def start(count, **settings):
    """``count`` processes of the script."""
    path = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    settings = {"count": count, "address": f"localhost:{free_port()}", **settings}
    return [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(settings | {"index": index})],
            env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def end(started):
    """Exit codes, outputs and errors of processes that end."""
    said = [process.communicate(timeout=300) for process in started]
    codes = [process.returncode for process in started]
    return codes, [out for out, _ in said], [err for _, err in said]


def table(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(workdir, other):
    """The same rows and parameters, to rounding in float64."""
    rows, others = table(workdir), table(other)
    assert len(rows) == len(others)
    for row, expected in zip(rows, others, strict=True):
        assert row.keys() == expected.keys()
        for name in row:
            if name == "arm" or not expected[name]:
                assert row[name] == expected[name]
            else:
                np.testing.assert_allclose(
                    float(row[name]), float(expected[name]), rtol=1e-11
                )
    for arm, part in [("streamed", "params"), ("toy", "params"), ("toy", "best")]:
        step = max(int(f.name) for f in (other / "checkpoints" / arm).iterdir())
        got, expected = (
            checkpoints.read(folder / "checkpoints" / arm, step, part)
            for folder in (workdir, other)
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
            got,
            expected,
        )


def test_the_compiler_for_tpus_is_no_pod(monkeypatch):
    """It may be installed on a machine without a chip, which is alone."""
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: name)
    assert not processes.join()


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    from logitlab import data

    folder = tmp_path_factory.mktemp("data")
    data.prepare("wine", folder)
    return str(folder)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("move", [False, True])
def test_two_processes_are_one(config, tmp_path, wine, move):
    with config.unlocked():
        config.mesh = {"data": 2, "model": 2}
        config.sharding = (("kernel", (None, "model")),)
    settings = {"config": config.to_dict(), "data": wine, "stop_at": -1}
    one = tmp_path / "one"
    assert end(start(1, workdir=str(one), **settings))[0] == [0]

    two = tmp_path / "two"
    cut = {**settings, "stop_at": 7}
    codes, _, errors = end(start(2, workdir=str(two), **cut))
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert [row["step"] for row in table(two)][-1] == "7"

    # What two have written goes on in two processes, and in one.
    count = 1 if move else 2
    codes, said, errors = end(start(count, workdir=str(two), **settings))
    assert codes == [0] * count, errors
    assert len({out.splitlines()[-1] for out in said}) == 1
    same(two, one)
    if not move:
        return

    # What only the first one sees goes to all.
    with config.unlocked():
        config.checkpoint.keep = 5
    settings["config"] = config.to_dict()
    codes, said, errors = end(start(2, workdir=str(two), **settings))
    assert codes == [1, 1]
    assert all("checkpoint.keep: 2 there, 5 here" in error for error in errors)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1", 2, None), "index missing"),
        ((None, 2, 1), "coordinator missing"),
        (("localhost:1", 2, 2), "index is 2, expected 0 to 1"),
    ],
)
def test_what_is_wrong_with_the_others(given, message):
    with pytest.raises(ValueError, match=message):
        processes.join(*given)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"JAX_COORDINATOR_ADDRESS": "host:1"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),  # the batch script
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_the_environment_says_whether_there_are_others(
    monkeypatch, environment, expected
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: joined.append(a))
    assert processes.join() is expected
    assert joined == [()] * expected


def test_alone_there_is_nobody_to_wait_for():
    np.testing.assert_array_equal(processes.agree([3, 4]), [[3, 4]])
    processes.barrier("nobody")
    assert processes.in_first(lambda: {"step": 3}) == {"step": 3}
    with pytest.raises(KeyError):
        processes.in_first(lambda: {}["absent"])
