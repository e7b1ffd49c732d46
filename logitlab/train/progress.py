"""Progress bars, and deferred handling of signals."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping

import tqdm

from logitlab.train import processes

_COLUMNS = 79  # a line of 80 would wrap on a terminal of as many


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


class Progress:
    """Progress of a study: its arms, and the estimate of the time left.

    Training steps, and the seeds of computed arms, are taken to last as long as those
    of the same kind before them.
    """

    def __init__(self, work: Mapping[str, tuple[str, int]], *, quiet: bool = False):
        """``work`` is arm -> (kind, number) of its units, which are "steps" or "seeds".

        With ``quiet`` nothing is printed.
        """
        self.names, self.quiet = list(work), quiet
        self._left = dict(work)
        self._spent: dict[str, tuple[float, int]] = {}  # kind -> seconds, units

    def bar(
        self, name: str, total: int, start: int = 0, *, compiles: bool = True
    ) -> "Bar":
        """The bar of an arm that is about to begin, at step ``start``.

        If it ``compiles`` before its first step, that is no measure of the others.
        """
        return Bar(self, name, total, start, compiles)

    def over(self, name: str) -> None:
        """Notes that nothing is left to do for an arm."""
        self._left.pop(name, None)

    def advance(self, name: str, units: int, left: int, seconds: float) -> None:
        """Notes that ``units`` of an arm took so long, and ``left`` are to come."""
        kind, _ = self._left[name]
        before, count = self._spent.get(kind, (0.0, 0))
        self._spent[kind] = before + seconds, count + units
        self._left[name] = kind, left

    def seconds_left(self) -> float:
        """Of all arms, as far as anything is known of their kind."""
        pace = {kind: seconds / n for kind, (seconds, n) in self._spent.items() if n}
        return sum(pace.get(kind, 0.0) * left for kind, left in self._left.values())


class Bar:
    """One arm's line of at most 79 columns: what is done, two numbers, time left.

    As in ``[3/7] ortho  45% |███   | loss=0.12 test/accuracy=0.98, 3:10 left``, where
    the time is that of all arms. Before the first step it says "compiling", or
    "computing".
    """

    def __init__(
        self, progress: Progress, name: str, total: int, start: int, compiles: bool
    ):
        """See :meth:`Progress.bar`."""
        self._progress, self._name, self._total = progress, name, total
        self._numbers: dict[str, float] = {}
        self._said = "compiling" if compiles else "computing"
        self._at, self._time = start, time.perf_counter()
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            bar_format="{desc}",
            ncols=_COLUMNS,
            mininterval=0.2 if sys.stderr.isatty() else 10,
            disable=progress.quiet,
            desc=self._line(),
        )

    def update(self, step: int, numbers: Mapping[str, float] | None = None) -> None:
        """Moves to ``step``; the line has the loss and the last of other numbers."""
        now = time.perf_counter()
        if step > self._at:
            units = step - self._at if self._said != "compiling" else 0
            seconds = now - self._time if units else 0.0
            self._progress.advance(self._name, units, self._total - step, seconds)
            self._said = ""
        self._at, self._time = step, now
        self._numbers |= numbers or {}
        self._bar.set_description_str(self._line(), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self, said: str = "") -> None:
        """Leaves the last line on the screen, with what is ``said`` in place of times.

        Such as ``stopped: 95 % reached``.
        """
        self._said = said
        self._progress.over(self._name)
        self._bar.set_description_str(self._line(), refresh=False)
        self._bar.refresh()
        self._bar.close()

    def _line(self):
        """The line with as many of the numbers as there is room for."""
        names = self._progress.names
        head = f"[{names.index(self._name) + 1}/{len(names)}] {self._name:<16.16}"
        done = self._at / self._total if self._total else 1.0
        full = int(6 * done)
        head += f" {done:4.0%} |{'█' * full}{' ' * (6 - full)}| "
        seconds = self._progress.seconds_left()
        said = self._said or (f"{_clock(seconds)} left" if seconds else "")
        shown = ["loss"] * ("loss" in self._numbers)
        shown += [name for name in self._numbers if name != "loss"][len(shown) - 2 :]
        for first in range(len(shown) + 1):
            numbers = (f"{_short(n)}={self._numbers[n]:.3g}" for n in shown[first:])
            line = head + ", ".join(filter(None, (" ".join(numbers), said)))
            if len(line) <= _COLUMNS:
                break
        return line[:_COLUMNS].rstrip()


def _short(name):
    """A metric's name, or its last part, cut so that two fit a line."""
    return name if len(name) <= 14 else name.rpartition("/")[2][:14]


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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
