"""File locks on a working directory, exclusive or shared."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from logitlab.train.files import WorkdirError


class InUse(WorkdirError):
    """Another process holds the folder; the message names it and its host."""


@contextlib.contextmanager
def hold(folder: pathlib.Path, *, shared: bool = False) -> Iterator[None]:
    """Holds a folder for this process, or for all that hold it ``shared``.

    ``folder/lock`` says which process it is. The lock is the kernel's: it goes with its
    process, however that ends, and a file that is left over holds nobody up. Systems
    without such locks hold nothing.

    Raises:
      InUse: another process holds it.
      WorkdirError: the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = pathlib.Path(folder) / "lock"
    with _opened(path) as file:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"{folder} is in use by {_holder(path)}; wait for it, stop it, or "
                "choose another --workdir"
            ) from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def _opened(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
