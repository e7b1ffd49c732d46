"""Text in documents: those of a data set, and windows that are cut out of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from logitlab.data import sources
from logitlab.data.algorithmic import _checked_int

BETWEEN = b"\n\n"  # documents that share a window


class Documents(Sequence[bytes]):
    """The documents of a split, each read when it is asked for, as bytes of UTF-8."""

    def __init__(self, source, feature: str, what: str):
        self._source, self._feature, self._what = source, feature, what

    def __len__(self) -> int:
        """How many there are."""
        return len(self._source)

    def __getitem__(self, position):
        """The document at a position from 0 on."""
        if not 0 <= position < len(self):
            raise IndexError(f"document {position} of {len(self)}")
        (record,) = sources.records(self._source, [int(position)], self._what)
        return bytes(record[self._feature])


def text_documents(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    *,
    feature: str = "text",
) -> Documents:
    """The documents of a split of a text data set, such as C4, in random access.

    Use it with ``text_windows`` where a model trains on text that does not fit into
    memory.

    Args:
      name: of a TFDS builder, such as ``c4/en``; ``prepare`` is called first.
      split: of the data set; TFDS's slices such as ``"train[:1%]"`` work too.
      data_dir: see ``prepare``.
      feature: the entry of a record that holds the text.

    Returns:
      A sequence of bytes. Reading raises ``UnreadableRecord`` where it failed four
      times.

    Raises:
      UnavailableDataset: see ``prepare``.
      ValueError: no such split, or no text of that name in a record.
    """
    builder = sources.prepared_builder(name, data_dir)
    there = {key: np.dtype(f.np_dtype).kind for key, f in builder.info.features.items()}
    if there.get(feature) not in ("O", "S", "U"):
        texts = [key for key, kind in there.items() if kind in "OSU"]
        raise ValueError(f"feature is {feature!r}, expected one of {name}'s: {texts}")
    source = sources.data_source(builder, name, split)
    return Documents(source, feature, f"split {split!r} of {name}")


def text_windows(
    documents: Sequence[bytes],
    count: int,
    length: int,
    *,
    seed: int | Sequence[int],
    rows: slice = slice(None),
) -> np.ndarray:
    """Pieces of equal length, from random places of random documents.

    Use it for batches of a language model: windows depend on ``seed`` alone, so that
    ``seed=(run, step)`` resumes anywhere, and each process reads its own ``rows``.

    A document that ends within a window is followed by an empty line and the next one.

    Args:
      documents: bytes each, such as ``text_documents`` or a list.
      count: windows to draw, over all processes.
      length: of a window in bytes.
      seed: of the draw, an int from 0 on or several.
      rows: which of the windows to read and return.

    Returns:
      uint8 [count, length], or those rows of it.

    Raises:
      ValueError: no documents, or ``count`` or ``length`` below 1.

    >>> from logitlab.data import text_windows
    >>> window = text_windows([b"one", b"two", b"three"], 1, 12, seed=0)
    >>> window.shape, window.dtype
    ((1, 12), dtype('uint8'))
    """
    count, length = _checked_int("count", count, 1), _checked_int("length", length, 1)
    if not len(documents):
        raise ValueError("documents is empty, expected at least one")
    rng = np.random.default_rng(seed)
    first, part = rng.integers(len(documents), size=count), rng.random(count)
    windows = [
        _window(documents, int(i), p, length)
        for i, p in zip(first[rows], part[rows], strict=True)
    ]
    joined = np.frombuffer(b"".join(windows), np.uint8)
    return joined.reshape(len(windows), length)


def _window(documents, i, part, length):
    """``length`` bytes from the given part of document i on."""
    text = documents[i]
    start = int(part * len(text))
    window = text[start : start + length]
    while len(window) < length:
        i = (i + 1) % len(documents)
        window += BETWEEN + documents[i][: length - len(window)]
    return window[:length]
