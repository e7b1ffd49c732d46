"""Paths of folders and buckets, and atomic writes to them."""

import errno
import os
import pathlib
import re
import shutil
import tempfile

from logitlab.train import _buckets
from logitlab.train._buckets import is_bucket


class WorkdirError(RuntimeError):
    """The workdir belongs to another config or run, is damaged, or cannot be used."""


def workdir_path(workdir: str | os.PathLike) -> pathlib.Path:
    """The path of a folder, which need not be there, or of a bucket, which has to.

    Raises:
      ValueError: it is neither, or gcsfs is not installed.
      WorkdirError: the bucket is missing or cannot be read.
    """
    name = os.fspath(workdir)
    if not re.match(r"\w\w+:/", name):
        return pathlib.Path(workdir)
    if not re.match(r"gs://[^/]", name):
        raise ValueError(
            f"workdir is {name}, expected a folder or gs://BUCKET/PATH; mount other "
            "storage to use it"
        )
    try:
        _buckets.check_bucket(workdir)
    except OSError as error:
        raise WorkdirError(f"cannot use workdir {name}: {error}") from error
    return as_path(workdir)


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """A path that reads and lists files, in a folder or in a bucket."""
    return _buckets.path_of(path) if is_bucket(path) else pathlib.Path(path)


def write_file(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a file whole or not at all, and makes its folder.

    A run may be preempted at any moment, and half a page in the place of last night's
    would be worse than none. Text is written as UTF-8.
    """
    data = data.encode() if isinstance(data, str) else data
    if is_bucket(path):
        _buckets.write_object(path, data)
        return
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only inside one file system.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
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


def remove_folder(path: pathlib.Path) -> None:
    """Removes a folder with all that is in it."""
    if is_bucket(path):
        _buckets.remove_objects(path)
    else:
        shutil.rmtree(path)


class LocalFolder:
    """A folder for programs that write to local files alone.

    Attributes:
      folder: where to write: ``path``, or a temporary folder if that is in a bucket.
    """

    def __init__(self, path: str | os.PathLike):
        """Makes the temporary folder."""
        self._path, self.folder = as_path(path), pathlib.Path(path)
        if is_bucket(path):
            self._temporary = tempfile.TemporaryDirectory()
            self.folder = pathlib.Path(self._temporary.name)

    def send(self) -> None:
        """Copies what is in the temporary folder to the bucket.

        Raises:
          WorkdirError: it cannot be written.
        """
        if not is_bucket(self._path):
            return
        try:
            _buckets.upload(self.folder, self._path)
        except OSError as error:
            raise WorkdirError(f"cannot write to {self._path}: {error}") from error

    def close(self) -> None:
        """Sends what there is, and removes the temporary folder."""
        if is_bucket(self._path):
            with self._temporary:
                self.send()
