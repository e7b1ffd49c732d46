"""File locks on a working directory, exclusive or shared."""

import contextlib
import functools
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from logitlab.train import _buckets
from logitlab.train.files import WorkdirError, is_bucket


class InUse(WorkdirError):
    """Another process holds the folder; the message names it and its host."""


@contextlib.contextmanager
def hold(folder: pathlib.Path, *, shared: bool = False) -> Iterator[None]:
    """Holds a folder for this process, or for all that hold it ``shared``.

    ``folder/lock`` says which process it is. The lock is the kernel's: it goes with its
    process, however that ends, and a file that is left over holds nobody up. Systems
    without such locks hold nothing. In a bucket the lock is an object, which lapses a
    minute after its process was killed; a process that loses it writes nothing more.

    Raises:
      InUse: another process holds it.
      WorkdirError: the folder cannot be written.
    """
    if is_bucket(folder):
        with _held_in_bucket(folder, shared):
            yield
        return
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
            raise _in_use(folder, _holder(path)) from None
        file.truncate(0)
        file.write(json.dumps(_me()))
        file.flush()
        yield


@contextlib.contextmanager
def _held_in_bucket(folder, shared):
    me, alone, together = _me(), folder / "lock", folder / "lock.shared"
    lock = _buckets.Lock(together / f"{me['host']}.{me['pid']}" if shared else alone)
    with contextlib.ExitStack() as held:
        try:
            holder = lock.take(me)
            if holder is None:
                _buckets.lost.discard(str(folder))
                lose = functools.partial(_buckets.lost.add, str(folder))
                held.enter_context(lock.kept(lose))
                # Both kinds are taken before the other kind is looked for.
                others = [alone]
                if not shared:
                    others = [together / name for name in _buckets.checksums(together)]
                holders = map(_buckets.holder_of, others)
                holder = next((found for found in holders if found), None)
        except OSError as error:
            raise WorkdirError(f"cannot use workdir {folder}: {error}") from error
        if holder is not None:
            raise _in_use(folder, _named(holder))
        yield


def _in_use(folder, holder):
    return InUse(
        f"{folder} is in use by {holder}; wait for it, stop it, or choose another "
        "--workdir"
    )


def _me():
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}


def _opened(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise WorkdirError(f"cannot write to {path}: {error}") from error


def _holder(path):
    try:
        return _named(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError):  # it is just about to write its name
        return "another process"


def _named(holder):
    name = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    if "age" in holder:
        name += f" (last heard of {holder['age']:.0f} s ago)"
    return name


def _now():
    return time.strftime("%Y-%m-%d %H:%M:%S")
