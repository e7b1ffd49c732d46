import os
import re
import signal

import pytest

from logitlab.train import progress
from logitlab.train.progress import Clock, Interrupted, Progress, Signals


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_and_the_second_acts(kind, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Signals().catch() as signals:
        signals.raise_if_received()
        os.kill(os.getpid(), kind)
        with pytest.raises(Interrupted) as stopped:
            signals.raise_if_received()
        assert stopped.value.exit_code == 128 + kind
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (
            before
        )
    assert "saving, then stopping" in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def lines_of(capsys):
    """What the bars showed, one after another, without the blanks of tqdm."""
    shown = re.split(r"[\r\n]+", capsys.readouterr().err)
    return [line.rstrip() for line in shown if line.strip()]


@pytest.fixture
def seconds(monkeypatch):
    """Bars see this clock, which stands still unless it is set, and hide nothing."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_bar_says_which_arm_and_how_long_all_may_take(capsys, seconds):
    study = Progress({"a": ("steps", 100), "b": ("steps", 40), "c": ("seeds", 2)})
    bar = study.bar("a", 100, 40)
    seconds[0] = 7.0  # to compile
    bar.update(50, {"loss": 0.12345})
    assert study.seconds_left() == 0  # nothing is known yet
    seconds[0] = 17.0
    bar.update(70, {"test/accuracy": 1.0})
    assert study.seconds_left() == 35  # 30 and 40 steps, half a second each
    bar.close()
    assert study.seconds_left() == 20
    first, *_, last = lines_of(capsys)
    assert first == "[1/3] a                 40% |██    | compiling"
    assert last == (
        "[1/3] a                 70% |████  | loss=0.123 test/accuracy=1, 0:20 left"
    )
    bar = study.bar("c", 2, compiles=False)
    seconds[0] = 20.0
    bar.update(1)
    assert study.seconds_left() == 23  # 40 steps, and a seed like the first
    bar.close()
    assert lines_of(capsys)[:2] == [
        "[3/3] c                  0% |      | computing",
        "[3/3] c                 50% |███   | 0:20 left",
    ]


def test_a_bar_says_why_its_arm_stopped(capsys):
    bar = Progress({"a": ("steps", 100)}).bar("a", 100)
    bar.update(25, {"loss": 0.5})
    bar.close("stopped: 95% reached")
    assert lines_of(capsys)[-1] == (
        "[1/1] a                 25% |█     | loss=0.5, stopped: 95% reached"
    )


@pytest.mark.parametrize("left", [9, 59 * 60, 99 * 3600])
def test_a_bar_fits_80_columns(capsys, seconds, left):
    names = [f"an_arm_with_a_long_name_{i}" for i in range(100)]
    study = Progress({name: ("steps", 2) for name in names})
    bar = study.bar(names[-1], 2)
    bar.update(1, {"validation/error_entropy": -1.2345e-10, "loss": -1.2345e-10})
    study.advance(names[-1], 1, 0, left / 198)
    bar.update(2)
    bar.close("stopped: validation/error_entropy no better 100 times")
    lines = lines_of(capsys)
    assert max(map(len, lines)) <= 79
    assert all(line.startswith("[100/100] an_arm_") for line in lines)
    assert "stopped: validation/error_" in lines[-1]


def test_a_quiet_bar_prints_nothing(capsys):
    bar = Progress({"a": ("steps", 10)}, quiet=True).bar("a", 10)
    bar.update(10)
    bar.close("stopped")
    assert capsys.readouterr().err == ""


def test_the_clock_grows_at_most_fourfold_and_never_passes_what_is_left():
    clock = Clock(moment=1e9)
    assert clock.chunk(100) == 1
    with clock.measure(1):
        pass
    assert clock.chunk(100) == 4
    assert clock.chunk(3) == 3
    slow = Clock(moment=0.0)
    with slow.measure(8):
        pass
    assert slow.chunk(100) == 1
