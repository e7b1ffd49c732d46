import os
import signal

import pytest

from logitlab.train.progress import Bar, Clock, Interrupted, Signals


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


def test_the_bar_shows_steps_and_numbers(capsys):
    bar = Bar("an arm", 100, 40)
    bar.update(70, {"loss": 0.12345})
    bar.update(100, {"accuracy": 1.0})
    bar.close()
    shown = capsys.readouterr().err
    assert "an arm" in shown
    assert "100/100" in shown
    assert "loss=0.123" in shown
    assert "accuracy=1" in shown


def test_a_quiet_bar_prints_nothing(capsys):
    bar = Bar("an arm", 10, 0, quiet=True)
    bar.update(10)
    bar.close()
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
