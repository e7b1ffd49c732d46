"""Atomic file writes."""

import errno
import os
import pathlib


class WorkdirError(RuntimeError):
    """The workdir belongs to another config or run, is damaged, or cannot be used."""


def write_file(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a file whole or not at all, and makes its folder.

    A run may be preempted at any moment, and half a page in the place of last night's
    would be worse than none. Text is written as UTF-8.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only inside one file system.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def append_file(path: str | os.PathLike, text: str) -> None:
    """Adds to a file in one write; what a full disk cuts short is taken back.

    A killed process loses nothing of it; against a power cut there is ``sync_file``.

    Raises:
      OSError: it cannot be written; the file is as it was.
    """
    data = text.encode()
    with open(path, "ab", buffering=0) as file:
        length = file.tell()
        try:
            if file.write(data) < len(data):  # the disk took a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(length)
            raise


def sync_file(path: str | os.PathLike) -> None:
    """Waits until the disk has what was written to a file."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
