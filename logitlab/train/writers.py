"""Metric writers: a CSV table always, TensorBoard on request."""

import csv
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from logitlab.train.files import (
    LocalFolder,
    WorkdirError,
    append_file,
    as_path,
    is_bucket,
    remove_folder,
    sync_file,
    write_file,
)

KEYS = ("arm", "seed", "step")


class Table:
    """A CSV file with one row for each (arm, seed, step), and columns as they come.

    Rows reach the disk whole: those of one ``append`` go out in a single write, and a
    new column rewrites the file by rename. What a full disk cut short is taken back, a
    last line that a crash cut short is dropped when the file is opened again. To an
    object in a bucket nothing can be added: it is written anew with each ``sync``.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        keys: Sequence[str] = KEYS,
        *,
        writes: bool = True,
    ):
        """Opens the table at ``path``, and reads what it holds already.

        With ``writes=False``, as in all processes but the first, the rows stay in
        memory.
        """
        self.path, self.writes = as_path(path), writes
        self._keys = tuple(keys)
        self.columns, self.rows = list(keys), []
        if self.path.exists():
            text = self.path.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]
            reader = csv.DictReader(io.StringIO(whole, newline=""))
            self.columns = list(reader.fieldnames or keys)
            self.rows = list(reader)
            if whole != text:
                self._rewrite()

    def append(self, rows: Sequence[Mapping]) -> None:
        """Adds rows; numbers are written with the digits that their dtype needs.

        Raises:
          WorkdirError: they cannot be written; the file is as it was.
        """
        rows = [{k: str(v) for k, v in row.items()} for row in rows]
        new = [k for row in rows for k in row if k not in self.columns]
        before = self.columns, self.rows
        self.columns = [*self.columns, *dict.fromkeys(new)]
        self.rows = self.rows + rows
        if not self.writes or is_bucket(self.path):
            return
        try:
            if new or not self.path.exists():
                self._rewrite()
            else:
                append_file(self.path, self._text(rows))
        except OSError as error:
            self.columns, self.rows = before
            raise WorkdirError(
                f"cannot write to {self.path}: {error}; it is as it was before"
            ) from error

    def sync(self) -> None:
        """Waits until the disk has every row.

        Raises:
          WorkdirError: it does not take them.
        """
        try:
            if is_bucket(self.path):
                self._rewrite()
            elif self.writes and self.path.exists():
                sync_file(self.path)
        except OSError as error:
            raise WorkdirError(f"cannot write to {self.path}: {error}") from error

    def close(self) -> None:
        """Leaves in a bucket what came after the last ``sync``."""
        if is_bucket(self.path):
            self.sync()

    def keep(self, wanted) -> None:
        """Drops the rows for which ``wanted(row)`` is false."""
        rows = [row for row in self.rows if wanted(row)]
        if len(rows) != len(self.rows):
            self.rows = rows
            self._rewrite()

    def replace(self, rows: Sequence[Mapping]) -> None:
        """Puts rows in the place of all there are."""
        self.rows = [dict(row) for row in rows]
        self.columns = list(dict.fromkeys([*self._keys, *(k for r in rows for k in r)]))
        self._rewrite()

    def _rewrite(self):
        if not self.writes:
            return
        header = self._text([dict(zip(self.columns, self.columns, strict=True))])
        write_file(self.path, header + self._text(self.rows))

    def _text(self, rows):
        out = io.StringIO(newline="")
        csv.DictWriter(out, self.columns, lineterminator="\n").writerows(rows)
        return out.getvalue()


class TensorBoard:
    """Scalars as TensorBoard events, one run for each arm and seed."""

    def __init__(self, folder: str | os.PathLike):
        """Nothing is written before the first row."""
        from tensorboardX import SummaryWriter  # without TensorFlow

        self._place, self._local = as_path(folder), LocalFolder(folder)
        self._folder, self._open = self._local.folder, SummaryWriter
        self._writers: dict[Any, Any] = {}

    def append(self, rows: Sequence[Mapping]) -> None:
        """Adds every metric of every row at the row's step."""
        for row in rows:
            where = row["arm"], f"seed_{row['seed']}"
            if where not in self._writers:
                self._writers[where] = self._open(str(self._folder.joinpath(*where)))
            for metric, value in row.items():
                if metric not in KEYS and value != "":  # as a table has what is absent
                    value = number(value)
                    self._writers[where].add_scalar(metric, value, int(row["step"]))

    def replace(self, arm: str, rows: Sequence[Mapping]) -> None:
        """Puts rows in the place of all that there are of an arm.

        Events cannot be taken back one by one, and readers differ in what they do with
        a step that comes twice.

        Raises:
          WorkdirError: the old events cannot be deleted.
        """
        for where in [where for where in self._writers if where[0] == arm]:
            self._writers.pop(where).close()
        try:
            for old in (self._folder / arm).glob("seed_*"):
                shutil.rmtree(old)
            if is_bucket(self._place):
                remove_folder(self._place / arm)
        except OSError as error:
            raise WorkdirError(f"cannot write to {self._place}: {error}") from error
        self.append(rows)

    def sync(self) -> None:
        """Leaves in a bucket what there is until now."""
        if is_bucket(self._place):
            for writer in self._writers.values():
                writer.flush()
            self._local.send()

    def close(self) -> None:
        """Flushes and closes all runs."""
        for writer in self._writers.values():
            writer.close()
        self._local.close()


def rows_of(arm: str, seeds, active, step: int, numbers: Mapping[str, np.ndarray]):
    """One row for each seed that still runs; bools become 0 and 1.

    Raises:
      ValueError: a metric bears the name of a key, or holds no real numbers.
    """
    for name, values in numbers.items():
        if name in KEYS:
            raise ValueError(
                f"arm {arm!r} has a metric {name!r}, which is the name of a column of "
                f"the table; expected others than {KEYS}"
            )
        kinds = np.bool_, np.integer, np.floating
        if not any(jnp.issubdtype(values.dtype, kind) for kind in kinds):
            raise ValueError(
                f"metric {name!r} of arm {arm!r} has dtype {values.dtype}, expected "
                "real numbers or bools"
            )
    numbers = {
        name: values.astype(int) if values.dtype == bool else values
        for name, values in numbers.items()
    }
    return [
        {"arm": arm, "seed": seed, "step": step}
        | {name: values[i] for name, values in numbers.items()}
        for i, seed in enumerate(seeds)
        if active[i]
    ]


def number(text) -> float:
    """Parses a cell; earlier versions wrote bools as words."""
    return (
        {"True": 1.0, "False": 0.0}[text] if text in ("True", "False") else float(text)
    )
