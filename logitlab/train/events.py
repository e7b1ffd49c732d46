"""Event log of a run, one JSON object per line."""

import json
import os
import time

from logitlab.train.files import (
    WorkdirError,
    append_file,
    as_path,
    is_bucket,
    write_file,
)


class Events:
    """A log that people and programs can read: ``{"time": ..., "event": ...}``.

    Call it with the name of an event and whatever there is to say of it. In a bucket
    the lines come with the next ``sync``.
    """

    def __init__(self, path: str | os.PathLike, *, writes: bool = True):
        """With ``writes=False``, as in all processes but the first, nothing is kept."""
        self.path, self.writes, self._lines = as_path(path), writes, []
        if writes and is_bucket(path) and self.path.exists():
            self._lines.append(self.path.read_text("utf-8"))

    def __call__(self, event: str, **fields) -> None:
        """Writes a line.

        Raises:
          WorkdirError: it cannot be written.
        """
        if not self.writes:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
        line = json.dumps({"time": now, "event": event, **fields}, default=str)
        if is_bucket(self.path):
            self._lines.append(line + "\n")
            return
        try:
            append_file(self.path, line + "\n")
        except OSError as error:
            raise WorkdirError(f"cannot write to {self.path}: {error}") from error

    def sync(self) -> None:
        """Writes the lines that a bucket lacks.

        Raises:
          WorkdirError: they cannot be written.
        """
        if not self._lines:
            return
        try:
            write_file(self.path, "".join(self._lines))
        except OSError as error:
            raise WorkdirError(f"cannot write to {self.path}: {error}") from error

    close = sync
