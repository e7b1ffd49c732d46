"""A bar for each arm, and signals that wait for a good moment."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping

import tqdm

from logitlab.train import processes


class Interrupted(Exception):
    """Ctrl-C or a preemption notice came; the state was saved.

    Attributes:
      exit_code: what a shell expects of a process that the signal ended.
    """

    def __init__(self, signum: int):
        """``signum`` is the number of the signal."""
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Signals:
    """Remembers the first SIGINT or SIGTERM; a second one acts at once."""

    def __init__(self):
        """Nothing is caught before ``catch``."""
        self.received: int | None = None

    @contextlib.contextmanager
    def catch(self) -> Iterator["Signals"]:
        """Catches both signals inside the block. Only a main thread may."""
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.getsignal(kind) for kind in kinds}

        def remember(signum, frame):
            del frame
            self.received = signum
            for kind, handler in before.items():
                signal.signal(kind, handler)
            print(
                f"\n{signal.Signals(signum).name}: saving, then stopping "
                "(again to stop at once)",
                file=sys.stderr,
            )

        for kind in kinds:
            signal.signal(kind, remember)
        try:
            yield self
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def raise_if_received(self) -> None:
        """Raises :class:`Interrupted` after a signal, in whichever process it came.

        All processes must ask at the same point.
        """
        if signum := int(processes.agree([self.received or 0]).max()):
            raise Interrupted(signum)


class Bar:
    """Step, steps per second, time left and a few numbers, for one arm."""

    def __init__(self, name: str, total: int, start: int, *, quiet: bool = False):
        """``start`` is the step that a resumed run begins with."""
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            desc=f"{name:<16.16}",
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 10,
            disable=quiet,
        )
        self._numbers = {}

    def update(self, step: int, numbers: Mapping[str, float] = ()) -> None:
        """Moves to ``step`` and shows the given numbers beside the older ones."""
        self._numbers |= {k: f"{v:.3g}" for k, v in dict(numbers).items()}
        self._bar.set_postfix(self._numbers, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the last line on the screen."""
        self._bar.refresh()
        self._bar.close()


class Clock:
    """Chooses how many steps to dispatch, so that one call takes about a moment."""

    def __init__(self, moment: float = 0.5):
        """``moment`` is in seconds: how stale a bar or a signal may get."""
        self.moment, self._chunk = moment, 1

    def chunk(self, left: int) -> int:
        """At most ``left`` steps."""
        return max(1, min(left, self._chunk))

    @contextlib.contextmanager
    def measure(self, steps: int) -> Iterator[None]:
        """Times a call of ``steps`` steps that ends with its results on the host."""
        start = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - start, 1e-6)
        # At most fourfold: the first call may have been slow for reasons of its own.
        self._chunk = max(1, min(4 * steps, int(steps * self.moment / seconds)))
