"""What happens to the processes of a pod: deaths, delays, clocks, other arguments."""

import re
import signal
import time

import pytest
from harness.pods import end, same, start, table

from logitlab import data

# Of float32: what the devices of four processes add up, they add in another order.
RTOL = 1e-5
pytestmark = pytest.mark.slow


@pytest.fixture
def settings(config, tmp_path):
    data.prepare("wine", tmp_path / "data")
    with config.unlocked():
        config.mesh = {"data": -1}
        config.checkpoint.every_seconds = 0.5
    return {"config": config.to_dict(), "data": str(tmp_path / "data")}


@pytest.fixture
def alone(settings, tmp_path):
    """The workdir of one process with as many devices."""
    assert end(start(1, workdir=str(tmp_path / "alone"), **settings))[0] == [0]
    return tmp_path / "alone"


def test_a_process_that_dies(settings, tmp_path):
    deaths = {**settings, "stop_at": 7, "signals": {2: signal.SIGKILL}}
    started = start(4, workdir=str(tmp_path / "four"), **deaths)
    started[2].wait()
    died = time.monotonic()
    codes, _, errors = end(started)
    assert time.monotonic() - died < 60
    assert codes[2] == -signal.SIGKILL
    for index in (0, 1, 3):
        assert codes[index] not in (0, None)
        assert re.search(r"unhealthy \(stopped sending.*\n.*\b2\n", errors[index])


def test_a_slow_process_and_a_fast_clock(settings, alone, tmp_path):
    four = tmp_path / "four"
    codes, _, errors = end(
        start(4, workdir=str(four), slow=1, fast_clock=2, **settings)
    )
    assert codes == [0] * 4, errors
    same(four, alone, RTOL)


def test_eight_stop_and_four_go_on(settings, alone, tmp_path):
    moved = tmp_path / "moved"
    cut = {"devices": 8, "stop_at": 7, "signals": {5: signal.SIGTERM}}
    codes, _, errors = end(start(8, workdir=str(moved), **cut, **settings))
    assert codes == [128 + signal.SIGTERM] * 8, errors
    assert table(moved)[-1]["step"] == "7"
    codes, _, errors = end(start(4, workdir=str(moved), **settings))
    assert codes == [0] * 4, errors
    same(moved, alone, RTOL)


def test_another_seed_on_one_host(settings, tmp_path):
    config = settings.pop("config")
    configs = [config] * 3 + [{**config, "seed": config["seed"] + 1}]
    codes, _, errors = end(
        start(4, configs=configs, workdir=str(tmp_path / "four"), **settings)
    )
    assert codes == [1] * 4
    for error in errors:
        assert "the config of process 3 is not that of process 0" in error
    assert f"seed: {config['seed']} there, {config['seed'] + 1} here" in errors[3]
    assert not (tmp_path / "four").exists()
