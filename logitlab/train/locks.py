"""One run at a time in a workdir."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from logitlab.train.files import WorkdirError


@contextlib.contextmanager
def only_run(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir for this process; ``workdir/lock`` says for which one.

    The lock is the kernel's: it goes with its process, however that ends, and a file
    that is left over holds nobody up. Systems without such locks hold nothing.

    Raises:
      WorkdirError: another process holds it; the message names it and its host.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = pathlib.Path(workdir) / "lock"
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkdirError(
                f"{workdir} is in use by {_holder(path)}; wait for it, stop it, or "
                "choose another --workdir"
            ) from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def _opened(path):
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise WorkdirError(f"cannot write to {path}: {error}") from error


def _holder(path):
    try:
        holder = json.loads(path.read_text("utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):  # it is just about to write its name
        return "another process"


def _now():
    return time.strftime("%Y-%m-%d %H:%M:%S")
