"""Checkpoints of one arm, through Orbax."""

import contextlib
import json
import pathlib
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from logitlab.train import _buckets, processes
from logitlab.train.files import (
    WorkdirError,
    as_path,
    is_bucket,
    remove_folder,
    write_file,
)

FORMAT = 2  # of what is in a checkpoint; another one is not read
SUMS = "checksums.json"


class Checkpoints:
    """Saves in the background, keeps the newest few, restores exactly.

    Beside the arrays goes ``meta``, a small JSON value: what the host remembers. When a
    checkpoint is complete, checksums of its files are left in it; one whose files have
    changed since is not gone on from.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        """Makes the folder if need be; ``keep`` checkpoints stay."""
        if keep < 1:
            raise ValueError(f"checkpoint.keep is {keep}, expected at least 1")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, create=True
        )
        self._folder = _absolute(folder)
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._whole: set[int] = set()  # steps whose files were looked at

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Copies the state off the devices, and writes it while the run goes on.

        Raises:
          WorkdirError: this checkpoint, or the one before, cannot be written; the older
            ones are untouched.
        """
        if step == self._manager.latest_step():
            return  # a run is deterministic: the same step is the same state
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave({"format": FORMAT, **meta}),
        )
        self._finish()
        with _said_of(self._folder):
            self._manager.save(step, args=args, force=True)

    def latest(self) -> tuple[int, dict] | None:
        """Step and meta of the newest checkpoint that is whole, ``None`` without one.

        Damaged ones, newer than that, are deleted with a warning.

        Raises:
          WorkdirError: all are damaged, or they are of another format.
        """
        with _said_of(self._folder):
            self._manager.wait_until_finished()  # half written is not damaged
        found = processes.in_first(self._newest)
        if found is None:
            return None
        step, meta, damaged = found
        if damaged:
            processes.in_first(lambda: self._delete(damaged, step))
            self._manager.reload()
        return step, meta

    def _newest(self):
        """Step and meta of the newest whole checkpoint, and what is damaged."""
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                self._check(step)
                path = self._folder / str(step) / "meta" / "metadata"
                meta = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                damaged.append([step, f"{self._folder / str(step)}: {error}"])
                continue
            if (found := meta.pop("format", 0)) != FORMAT:
                raise WorkdirError(
                    f"{self._folder / str(step)} is of checkpoint format {found}, this "
                    f"version of logitlab reads {FORMAT}; choose another --workdir, or "
                    "go on with the version that wrote it"
                )
            return step, meta, damaged
        if damaged:
            raise WorkdirError(
                "every checkpoint is damaged; delete them to start again:\n  "
                + "\n  ".join(what for _, what in damaged)
            )
        return None

    def _delete(self, damaged, step):
        for bad, what in damaged:
            warnings.warn(
                f"deleted a damaged checkpoint, {what}; going on from step {step}",
                stacklevel=2,
            )
            remove_folder(self._folder / str(bad))

    def restore(self, step: int, like: Any = None) -> Any:
        """The state saved at ``step``, with the structure and shardings of ``like``.

        Raises:
          WorkdirError: it has other leaves, shapes or dtypes than ``like``; the message
            names them.
        """
        abstract = None
        if like is not None:
            folder = self._folder / str(step)
            processes.in_first(lambda: _check_same(folder, like))
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args)["state"]

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          WorkdirError: it cannot be written.
        """
        try:
            self._finish()
        finally:
            self._manager.close()

    def _finish(self):
        """Waits for what is being written, and seals what is complete."""
        with _said_of(self._folder):
            self._manager.wait_until_finished()
            if not processes.is_first():
                return
            for step in self._manager.all_steps():
                folder = self._folder / str(step)
                if not (folder / SUMS).exists():
                    write_file(folder / SUMS, json.dumps(_sums(folder)))

    def _check(self, step):
        """Raises ``ValueError`` where a file is not what it was when it was written."""
        folder = self._folder / str(step)
        if step in self._whole or not (folder / SUMS).exists():
            return  # without sums: complete, but killed before it was sealed
        expected = json.loads((folder / SUMS).read_text("utf-8"))
        found = _sums(folder)
        for name in expected.keys() | found.keys():
            if expected.get(name) != found.get(name):
                raise ValueError(f"{name} has changed since it was written")
        self._whole.add(step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read(folder: pathlib.Path, step: int, part: str | None = None) -> Mapping:
    """A checkpoint's arrays as NumPy's, wherever they were when it was written.

    Reads for this process alone. ``part`` is one entry of what was saved.
    """
    index = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        create=False,
        enable_async_checkpointing=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=index, active_processes={index}, barrier_sync_key_prefix="read"
        ),
    )
    handlers = {
        "state": ocp.PyTreeCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),  # or Orbax warns that it lacks one
    }
    with ocp.CheckpointManager(
        _absolute(folder), options=options, item_handlers=handlers
    ) as manager:
        tree = manager.item_metadata(step)["state"].tree
        wanted = tree if part is None else {part: tree[part]}
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        args = ocp.args.PyTreeRestore(
            item=wanted, restore_args=how, partial_restore=True
        )
        state = manager.restore(step, args=ocp.args.Composite(state=args))["state"]
    return state if part is None else state[part]


def _absolute(folder):
    path = as_path(folder)
    return path if is_bucket(path) else path.absolute()


def _check_same(folder, like):
    """Raises ``WorkdirError`` where a checkpoint holds other arrays than ``like``."""
    there = _kinds(ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree)
    here, none = _kinds(jax.eval_shape(_raw, like)), "(absent)"
    lines = [
        f"{name}: {there.get(name, none)} there, {here.get(name, none)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if len(lines) > 10:
        lines[9:] = [f"and {len(lines) - 9} more"]
    if lines:
        raise WorkdirError(
            f"{folder} holds other arrays than this run has; choose another --workdir, "
            "or make these equal:\n  " + "\n  ".join(lines)
        )


def _raw(tree):
    """Replaces random keys by their raw key data, as files hold them."""

    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(raw, tree)


def _kinds(tree):
    """Path of each leaf -> its dtype and shape."""
    return {
        name: f"{jnp.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
        for name, leaf in ocp.tree.to_flat_dict(tree, sep="/").items()
    }


@contextlib.contextmanager
def _said_of(folder):
    """Turns any failure to write into an error that names the folder."""
    try:
        yield
    except Exception as error:  # Orbax and its parts raise what they like
        raise WorkdirError(
            f"cannot write a checkpoint to {folder}: {error}; older ones are untouched"
        ) from error


def _sums(folder):
    """CRC-32 of every file but the sums themselves; of objects it is known already."""
    if is_bucket(folder):
        found = _buckets.checksums(folder)
        return {name: crc for name, crc in found.items() if name != SUMS}
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _crc(path)
        for path in sorted(files)
        if path.name != SUMS
    }


def _crc(path):
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(2**24):
            total = zlib.crc32(chunk, total)
    return total
