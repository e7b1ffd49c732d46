"""Cloud Storage buckets as folders: everything in which the two differ.

An object is written whole or not at all, and nothing can be added to it. It can be
written on condition that it is still of a certain generation, of which locks are made.
"""

import contextlib
import datetime
import email.utils
import functools
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

LAPSES = 60.0  # seconds without a sign of life, after which a lock is free
lost: set[str] = set()  # folders whose lock another process took over


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is that of an object, or of a bucket or a folder in it."""
    return os.fspath(path).startswith("gs://")


def path_of(path: str | os.PathLike) -> pathlib.Path:
    """A path that has of ``pathlib.Path`` what runs use."""
    from etils import epath  # which Orbax brings

    _storage()
    return cast(pathlib.Path, epath.Path(path))


def check_bucket(path: str | os.PathLike) -> None:
    """Asks for a bucket.

    Raises:
      ValueError: gcsfs is not installed.
      OSError: there is no such bucket, or it may not be seen or listed.
    """
    bucket, name = _parts(path)
    _storage()  # or its ValueError would be taken for one of the request
    try:
        with _one_line():
            _call("GET", "b/{}", bucket)  # as Orbax does before it deletes
            _call("GET", "b/{}/o", bucket, prefix=f"{name}/", maxResults=1)
    except FileNotFoundError:
        raise OSError(f"there is no bucket {bucket!r}") from None


@functools.cache
def _storage():
    """The file system that reads and writes objects, as it does for Orbax."""
    try:
        import fsspec
        import gcsfs
    except ImportError as error:
        raise ValueError(
            f"workdirs in buckets need {error.name}; install it with: "
            "pip install 'logitlab[gcs]'"
        ) from error
    # Listings that it remembers would lack what other processes have written since.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return gcsfs.GCSFileSystem(use_listings_cache=False)


def _call(method: str, path: str, *names: str, **parameters) -> tuple[Any, bytes]:
    """Headers and body of the answer to one request."""
    return _storage().call(method, path, *names, **parameters)


def _parts(path):
    """Names of the bucket and of what is in it."""
    bucket, _, name = os.fspath(path).removeprefix("gs://").partition("/")
    return bucket, name.rstrip("/")


@contextlib.contextmanager
def _one_line():
    """Turns whatever a request raises into an ``OSError`` of one line."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # of gcsfs, of aiohttp, of the library for credentials
        said = " ".join(str(error).split()) or type(error).__name__
        raise OSError(said) from error


def write_object(path: str | os.PathLike, data: bytes) -> None:
    """Writes an object.

    Raises:
      OSError: it cannot be written, or another process has taken over the lock of the
        folder that it is in.
    """
    name = os.fspath(path)
    for folder in lost:
        if name.startswith(f"{folder}/"):
            raise OSError(
                f"another process took {folder} over, after {LAPSES:.0f} s without a "
                "sign of life from this one"
            )
    with _one_line():
        _storage().pipe_file(name, data)


def upload(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Copies all files of a local folder.

    Raises:
      OSError: one cannot be written.
    """
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            write_object(path / file.relative_to(folder).as_posix(), file.read_bytes())


def remove_objects(path: str | os.PathLike) -> None:
    """Removes all objects below a path, if there are any.

    Raises:
      OSError: one cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError), _one_line():
        _storage().rm(os.fspath(path), recursive=True)


def checksums(path: str | os.PathLike) -> dict[str, str]:
    """Names of all objects below a path, and the checksums that the storage keeps.

    Raises:
      OSError: they cannot be listed.
    """
    with _one_line():
        found = _storage().find(os.fspath(path), detail=True)
    start = len("/".join(_parts(path))) + 1
    return {name[start:]: about["crc32c"] for name, about in found.items()}


class Lock:
    """A lock that is an object, and that lapses without signs of life.

    There is no kernel that would free it when its process ends. So the holder writes it
    again every few seconds, and who finds it too old, by the clock of the storage, puts
    its own in its place; the generation sees to it that only one does.
    """

    def __init__(self, path: pathlib.Path):
        """Takes nothing yet; ``path`` is that of the object."""
        self.path, self._generation = path, 0

    def take(self, holder: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Takes it for a holder, unless another has it, who is returned.

        Raises:
          OSError: it cannot be read or written.
        """
        self._data = json.dumps(holder).encode()
        while True:
            old, generation = _read_lock(self.path)
            if old is not None:
                return old
            written = self._write(generation)
            if written is not None:
                self._generation = written
                return None

    @contextlib.contextmanager
    def kept(self, on_loss: Callable[[], Any]) -> Iterator[None]:
        """Gives signs of life, then removes it.

        ``on_loss`` is called, in another thread, if another process has taken it.
        """
        ended = threading.Event()

        def keep():
            while not ended.wait(LAPSES / 6):
                with contextlib.suppress(OSError):  # the network may come back
                    written = self._write(self._generation)
                    if written is None:
                        on_loss()
                        return
                    self._generation = written

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            bucket, name = _parts(self.path)
            match = {"ifGenerationMatch": self._generation}
            # Should it stay, it lapses.
            with contextlib.suppress(OSError), _one_line():
                _call("DELETE", "b/{}/o/{}", bucket, name, **match)

    def _write(self, generation):
        """Its new generation; ``None`` if it was not of ``generation`` any more."""
        bucket, name = _parts(self.path)
        url = f"{_storage()._location}/upload/storage/v1/b/{{}}/o"
        match = {"ifGenerationMatch": generation}
        try:
            with _one_line():
                _, body = _call(
                    "POST",
                    url,
                    bucket,
                    uploadType="media",
                    name=name,
                    data=self._data,
                    **match,
                )
        except FileExistsError:
            # Perhaps by ourselves: an answer got lost, and the request was repeated.
            try:
                with _one_line():
                    found, _, generation = _object(self.path)
            except FileNotFoundError:
                return None
            return generation if found == self._data else None
        return int(json.loads(body)["generation"])


def holder_of(path: str | os.PathLike) -> Mapping[str, Any] | None:
    """Who has a lock; ``None`` if it is free."""
    return _read_lock(path)[0]


def _read_lock(path):
    """Who has a lock, if anybody has, and the generation of its object."""
    try:
        with _one_line():
            data, age, generation = _object(path)
    except FileNotFoundError:
        return None, 0
    if age > LAPSES:
        return None, generation
    return {**json.loads(data), "age": age}, generation


def _object(path):
    """What an object holds, its age in seconds and its generation."""
    bucket, name = _parts(path)
    headers, body = _call("GET", "b/{}/o/{}", bucket, name)
    about = json.loads(body)
    generation = int(about["generation"])
    _, data = _call("GET", "b/{}/o/{}", bucket, name, alt="media")
    now = email.utils.parsedate_to_datetime(headers["Date"])
    written = datetime.datetime.fromisoformat(about["updated"])
    return data, max(0.0, (now - written).total_seconds()), generation
