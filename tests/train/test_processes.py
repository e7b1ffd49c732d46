"""Two real processes with two devices each, beside one process with four."""

import signal

import jax
import numpy as np
import pytest
from harness.pods import end, same, start, table

from logitlab.train import processes


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
    settings = {"config": config.to_dict(), "data": wine}
    one = tmp_path / "one"
    assert end(start(1, workdir=str(one), **settings))[0] == [0]

    two = tmp_path / "two"
    cut = {**settings, "stop_at": 7, "signals": {0: signal.SIGTERM}}  # to one alone
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
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **_: joined.append(a))
    assert processes.join() is expected
    assert joined == [()] * expected


def test_alone_there_is_nobody_to_wait_for():
    np.testing.assert_array_equal(processes.agree([3, 4]), [[3, 4]])
    processes.barrier("nobody")
    assert processes.in_first(lambda: {"step": 3}) == {"step": 3}
    with pytest.raises(KeyError):
        processes.in_first(lambda: {}["absent"])
