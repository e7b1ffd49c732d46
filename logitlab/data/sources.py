"""Data sets by name: whole in memory, or in batches from array_record files by Grain.

TFDS finds the builder and writes and reads the files, Grain orders and reads ahead.
Neither is imported before a function here needs it; TensorFlow never is.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import pathlib
import shutil
import socket
import time
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import _lazy
from logitlab.data import _remote
from logitlab.data.algorithmic import _checked_int

REMAINDERS = ("drop", "mask")
WAITS = (0.05, 0.2, 0.8)  # seconds before rows that cannot be read are tried again


class UnavailableDataset(RuntimeError):
    """A data set is neither prepared nor can it be; the message says what to do."""


class UnreadableRecord(RuntimeError):
    """A record cannot be read, even when tried again; the message names it."""


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Makes sure that a data set lies in ``data_dir`` as array_record files.

    ``digits``, ``breast_cancer``, ``wine`` and ``mnist1d`` are made on the spot, see
    :mod:`logitlab.data.tfds_builders`; any other name is one of TFDS, is downloaded,
    and may need TensorFlow to be written (never to be read). What is prepared is left
    alone. The files are written beside their place and moved there when complete, by
    one process of a host at a time; what a killed one leaves is swept by the next.

    Args:
      name: of a TFDS builder, ``name``, ``name/config`` or ``name:version``.
      data_dir: TFDS's folder, by default ``TFDS_DATA_DIR`` or
        ``~/tensorflow_datasets``. From a bucket, ``gs://BUCKET/PATH``, the data set is
        copied to the folder ``gs`` in there when it is first used.

    Returns:
      The folder of the data set.

    Raises:
      UnavailableDataset: an unknown name, no network, or files in another format.

    >>> from logitlab.data.sources import prepare
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prepare("wine", folder).removeprefix(folder)
    '/wine/1.0.0'
    """
    return os.fspath(prepared_builder(name, data_dir).data_dir)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    standardize: bool = False,
) -> dict[str, dict[str, jax.Array]]:
    """Every split of a small data set, whole in memory.

    Shapes: n rows of shape [...] -> x float32 [n, ...], y int32 [n]

    Args:
      name: see :func:`prepare`, which is called first.
      data_dir: see :func:`prepare`.
      standardize: subtract from every feature its mean over the training split and
        divide by its deviation there; a feature constant in training is only shifted.

    Returns:
      ``{"train": dict(x=..., y=...), "test": dict(x=..., y=...)}``, rows in the order
      of the files: that of the source for the sets made here.

    Raises:
      UnavailableDataset: see :func:`prepare`.
      UnreadableRecord: a record failed four times.
      ValueError: the data set does not say what to predict from what, or
        ``standardize`` without a split named ``train``.

    >>> from logitlab.data.sources import load
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     wine = load("wine", folder, standardize=True)
    >>> wine["train"]["x"].shape, wine["test"]["y"].shape
    ((142, 13), (36,))
    """
    builder = prepared_builder(name, data_dir)
    names, splits = _supervised(builder), {}
    for split in builder.info.splits:
        source = builder.as_data_source(split=split)
        what = f"split {split!r} of {name}"
        splits[split] = _read(source, range(len(source)), names, what)
    if standardize:
        if "train" not in splits:
            raise ValueError(f"standardize needs a split train, {name} has {[*splits]}")
        train = splits["train"]["x"].astype(np.float64)
        mean, deviation = train.mean(0), train.std(0)
        deviation = np.where(deviation > 0, deviation, 1)
        for rows in splits.values():
            rows["x"] = (rows["x"] - mean) / deviation
    return {
        split: {"x": jnp.asarray(r["x"], jnp.float32), "y": jnp.asarray(r["y"])}
        for split, r in splits.items()
    }


class BatchIterator(Iterator):
    """Batches from a step on, read ahead by threads; its state is the next step."""

    def __init__(self, dataset, step: int, threads: int):
        self._dataset, self._threads, self._inner = dataset, threads, None
        self.set_state({"step": step})

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._inner)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """``{"step": n}``, n being the step of the batch that comes next; JSON."""
        return {"step": self._step}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to where :meth:`get_state` was called, at no cost for the steps between.

        Raises:
          ValueError: the step is not an int from 0 on.
        """
        import grain

        step = _checked_int("step", state["step"], 0)
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=2 * self._threads
        )
        rest = self._dataset[step:]
        self.close()
        # Grain would call a dataset of no rows an error; it is the end.
        self._inner = iter(rest.to_iter_dataset(options)) if len(rest) else iter(())
        self._step = step

    def close(self) -> None:
        """Ends the threads; ``set_state`` starts new ones."""
        if hasattr(self._inner, "close"):
            self._inner.close()
        self._inner = iter(())


class Batches:
    """The batches of a data set in their order; what :func:`stream` returns.

    Calling it with a step gives an iterator from there on, so that
    ``train.Stream(batches)`` is all that a resumable run needs.

    Attributes:
      rows: how many rows an epoch is drawn from.
      steps_per_epoch: batches of an epoch.
      steps: batches altogether, ``None`` without end.
    """

    def __init__(self, dataset, rows: int, steps_per_epoch: int, epochs, threads: int):
        self._dataset, self._threads = dataset, threads
        self.rows, self.steps_per_epoch = rows, steps_per_epoch
        self.steps = None if epochs is None else steps_per_epoch * epochs

    def __call__(self, step: int = 0) -> BatchIterator:
        """An iterator whose first batch is that of ``step``."""
        return BatchIterator(self._dataset, step, self._threads)

    def __iter__(self) -> BatchIterator:
        return self(0)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step, read on the spot."""
        step = _checked_int("step", step, 0)
        if self.steps is not None and step >= self.steps:
            raise IndexError(f"step is {step}, expected 0 to {self.steps - 1}")
        return self._dataset[step]


def stream(
    name: str,
    split: str,
    batch_size: int,
    *,
    seed: int,
    data_dir: str | os.PathLike | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    epochs: int | None = None,
    shuffle: bool = True,
    remainder: str = "drop",
    rows: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    transform: Callable[[dict[str, np.ndarray]], Mapping[str, Any]] | None = None,
    threads: int = 4,
) -> Batches:
    """Batches of a split of any size, the same for the same seed, from any step on.

    An epoch is a permutation of the rows by ``seed`` and its own number, cut into
    batches of ``batch_size`` rows, and of each the processes take equal shares in
    their order: together they read every row once, and the batch of a step does not
    depend on how many processes there are.

    Shapes: b = batch_size / process_count rows of shape [...] -> x [b, ...] as stored,
    y int32 [b], index int32 [b] and, with ``remainder="mask"``, mask bool [b]

    Args:
      name: see :func:`prepare`, which is called first.
      split: of the data set; TFDS's slices such as ``"train[:80%]"`` work too.
      batch_size: rows of a step over all processes.
      seed: of the order, an int from 0 on.
      data_dir: see :func:`prepare`.
      process_index: whose share to read, by default ``jax.process_index()``.
      process_count: between how many, by default ``jax.process_count()``.
      epochs: passes over the rows, ``None`` without end.
      shuffle: False keeps the rows in the order of the files, in every epoch.
      remainder: what becomes of the rows that do not fill a batch: ``drop`` leaves
        them out of that epoch, ``mask`` fills up with rows whose ``mask`` is False.
      rows: positions in the split to draw from, as :func:`long_tail` gives them; by
        default all.
      labels: an int for each row of the split, instead of what is stored there, as
        :func:`symmetric_noise` gives them.
      transform: applied to each batch on the host, in the reading threads.
      threads: batches read at once; twice as many are held ready.

    Returns:
      :class:`Batches` of NumPy arrays. ``index`` is the position in the split. Reading
      them raises :class:`UnreadableRecord` where a record failed four times.

    Raises:
      UnavailableDataset: see :func:`prepare`.
      ValueError: an argument outside its range, or not a whole batch of rows.

    >>> from logitlab.data.sources import stream
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     batches = stream("wine", "train", 32, seed=0, data_dir=folder)
    ...     batch = next(batches(step=10_000))
    >>> batches.steps_per_epoch, batch["x"].shape
    (4, (32, 13))
    """
    if process_index is None:
        process_index = jax.process_index()
    if process_count is None:
        process_count = jax.process_count()
    count = _checked_int("process_count", process_count, 1)
    place = _checked_int("process_index", process_index, 0, count - 1)
    batch_size = _checked_int("batch_size", batch_size, 1)
    seed, threads = _checked_int("seed", seed, 0), _checked_int("threads", threads, 1)
    if epochs is not None:
        epochs = _checked_int("epochs", epochs, 1)
    if batch_size % count:
        raise ValueError(
            f"batch_size is {batch_size}, expected a multiple of {count} processes"
        )
    if remainder not in REMAINDERS:
        raise ValueError(f"remainder is {remainder!r}, expected one of {REMAINDERS}")

    builder = prepared_builder(name, data_dir)
    names = _supervised(builder)
    source = data_source(builder, name, split)
    rows = _checked_rows(rows, len(source))
    labels = _checked_labels(labels, len(source))
    if len(rows) < (batch_size if remainder == "drop" else 1):
        raise ValueError(
            f"batch_size is {batch_size}, but there are {len(rows)} rows; with "
            f"remainder='mask' one row is enough"
        )

    share, what = batch_size // count, f"split {split!r} of {name}"

    def read(positions):
        mask = np.arange(batch_size) < len(positions)
        positions = np.pad(positions, (0, batch_size - len(positions)), mode="edge")
        mine = slice(place * share, (place + 1) * share)
        index = rows[positions[mine]]
        batch = _read(source, index.tolist(), names, what)
        if labels is not None:
            batch["y"] = labels[index]
        batch["index"] = index.astype(np.int32)
        if remainder == "mask":
            batch["mask"] = mask[mine]
        return batch if transform is None else transform(batch)

    order = _order(len(rows), seed if shuffle else None)
    order = order.batch(batch_size, drop_remainder=remainder == "drop")
    return Batches(
        order.repeat(epochs).map(read), len(rows), len(order), epochs, threads
    )


def data_source(builder: Any, name: str, split: str) -> Any:
    """The records of a split, in random access; ValueError where there is none."""
    try:
        return builder.as_data_source(split=split)
    except ValueError as error:
        there = {k: v.num_examples for k, v in builder.info.splits.items()}
        raise ValueError(
            f"split is {split!r}, expected one of {name}'s: {there}"
        ) from error


def _order(count, seed):
    """Positions below ``count``, shuffled anew in every epoch if there is a seed."""
    import grain

    order = grain.MapDataset.range(count)
    if seed is None:
        return order
    # Grain's seed of an epoch is seed + epoch: unhashed, seed 1 would begin with the
    # second epoch of seed 0.
    return order.shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))


def _read(source, positions, names, what):
    """The rows at ``positions``, stacked: x as stored and y int32."""
    examples = records(source, [int(i) for i in positions], what)
    x, y = (np.stack([e[name] for e in examples]) for name in names)
    return {"x": x, "y": y.astype(np.int32) if y.dtype.kind in "iu" else y}


def records(source: Any, positions: list[int], what: str) -> list[dict[str, Any]]:
    """The records at ``positions`` of ``what``, tried again where they cannot be read.

    Raises:
      UnreadableRecord: the first of them that failed four times.
    """
    for wait in WAITS:
        try:
            return source.__getitems__(positions)
        except Exception as error:  # each format and file system raises its own
            warnings.warn(f"trying again to read {what}: {error}", stacklevel=2)
            time.sleep(wait)
    return [_record(source, position, what) for position in positions]


def _record(source, position, what):
    try:
        return source.__getitems__([position])[0]
    except Exception as error:
        raise UnreadableRecord(
            f"record {position} of {what} cannot be read: {type(error).__name__}: "
            f"{error}"
        ) from error


def _supervised(builder):
    names = builder.info.supervised_keys
    if names is None or len(names) != 2 or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"name is {builder.name!r}, whose supervised keys are {names}; expected a "
            f"data set with one input and one label"
        )
    return names


def prepared_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """The builder of ``name``, its files in place."""
    with _lazy.train_extra("logitlab.data"):
        import tensorflow_datasets as tfds

        from logitlab.data import tfds_builders

    if data_dir is None:
        data_dir = tfds.core.constants.DATA_DIR
    data_dir = os.path.expanduser(os.fspath(data_dir))
    base = name.split("/")[0].split(":")[0]
    local = base in tfds_builders.LOCAL
    try:
        if data_dir.startswith("gs://"):
            copies = tfds.core.constants.DATA_DIR
            data_dir = _remote.copy_of(name, data_dir, copies, needed=not local)
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(base, known)
        hint = f"did you mean {near}?" if near else "nothing of that name is prepared"
        raise UnavailableDataset(
            f"no builder is called {name!r} and data_dir {data_dir!r} holds no "
            f"prepared {name!r}: {hint}"
        ) from error
    except Exception as error:  # a wrong version, config or format: no common type
        raise UnavailableDataset(
            f"the builder {name!r} cannot be made for data_dir {data_dir!r}: {error}"
        ) from error
    if not builder.is_prepared():
        try:
            with _alone(builder, data_dir):
                if not builder.is_prepared():  # another process may have been faster
                    if not local:
                        _check_network(builder)
                    _write(tfds, builder, data_dir, quiet=local)
            builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        except Exception as error:
            raise UnavailableDataset(
                f"{name!r} is not prepared in data_dir {data_dir!r} and its builder "
                f"{type(builder).__name__} failed to prepare it there: "
                f"{type(error).__name__}: {error}. {_advice(name, data_dir, local)}"
            ) from error
    return builder


def _advice(name, data_dir, local):
    if local:
        return "Check that data_dir can be written and has room"
    return (
        f"Prepare it where there is a network (and TensorFlow, if the builder needs "
        f"it), `tfds build {name} --file_format=array_record --data_dir=DIR`, and copy "
        f"DIR/{name.split(':')[0]} into {data_dir}"
    )


def _check_network(builder):
    """Raises at once for hosts that do not resolve; TFDS would retry for minutes."""
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos} - {None}
    if not hosts or urllib.request.getproxies():
        return
    for host in hosts:
        with contextlib.suppress(OSError):
            socket.getaddrinfo(host, None)
            return
    raise ConnectionError(f"no network: {', '.join(sorted(hosts))} cannot be resolved")


def _write(tfds, builder, data_dir, *, quiet):
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        builder.download_and_prepare(
            download_dir=os.path.join(data_dir, "downloads"), download_config=config
        )


@contextlib.contextmanager
def _alone(builder, data_dir):
    """Holds the lock of a data set on this host; then sweeps what is half done."""
    folder = pathlib.Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f".{builder.name}.lock"
    with open(lock, "w") as file:
        with contextlib.suppress(ImportError):  # not on Windows
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # a killed process lets go of it
        try:
            yield
        finally:
            _sweep(builder, folder)


def _sweep(builder, folder):
    """Removes incomplete folders of this data set and version, and empty ones."""
    versions = pathlib.Path(builder.data_dir).parent
    downloads = folder / "downloads"
    for half in versions.glob(f"incomplete.*_{pathlib.Path(builder.data_dir).name}"):
        shutil.rmtree(half, ignore_errors=True)
    for half in (downloads / builder.name).glob("*.tmp.*"):
        shutil.rmtree(half, ignore_errors=True)
    mine = [p for p in [versions, *versions.parents] if folder in p.parents]
    for path in [*mine, downloads / builder.name, downloads / "extracted", downloads]:
        with contextlib.suppress(OSError):  # not there, or not empty
            path.rmdir()


def _checked_rows(rows, length):
    if rows is None:
        return np.arange(length)
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"rows has shape {rows.shape} and dtype {rows.dtype}, expected ints [m]"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= length):
        raise ValueError(
            f"rows has {rows.min()} to {rows.max()}, expected 0 to {length - 1}"
        )
    if len(np.unique(rows)) != len(rows):
        raise ValueError("rows has a position twice, expected each at most once")
    return rows


def _checked_labels(labels, length):
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.shape != (length,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels has shape {labels.shape} and dtype {labels.dtype}, expected ints "
            f"[{length}], one for each row of the split"
        )
    return labels.astype(np.int32)
