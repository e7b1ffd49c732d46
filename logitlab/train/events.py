"""Event log of a run, one JSON object per line."""

import json
import pathlib
import time

from logitlab.train.files import WorkdirError, append_file


class Events:
    """A log that people and programs can read: ``{"time": ..., "event": ...}``.

    Call it with the name of an event and whatever there is to say of it.
    """

    def __init__(self, path: pathlib.Path, *, writes: bool = True):
        """With ``writes=False``, as in all processes but the first, nothing is kept."""
        self.path, self.writes = pathlib.Path(path), writes

    def __call__(self, event: str, **fields) -> None:
        """Writes a line.

        Raises:
          WorkdirError: it cannot be written.
        """
        if not self.writes:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
        line = json.dumps({"time": now, "event": event, **fields}, default=str)
        try:
            append_file(self.path, line + "\n")
        except OSError as error:
            raise WorkdirError(f"cannot write to {self.path}: {error}") from error
