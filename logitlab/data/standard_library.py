"""A text corpus without a download: the source of Python's standard library."""

from __future__ import annotations

import hashlib
import os
import pathlib
import sysconfig
from typing import NamedTuple

import numpy as np

_LEFT_OUT = frozenset(
    (
        "test",
        "idlelib",
        "lib2to3",
        "site-packages",
        "dist-packages",
        "__pycache__",
    )
)


class Text(NamedTuple):
    """Two splits of a text as bytes, and which text it was.

    Attributes:
      train: uint8 [n].
      validation: uint8 [m], of other files.
      sha256: of the training bytes and then the others, in hexadecimal.
    """

    train: np.ndarray
    validation: np.ndarray
    sha256: str


def standard_library_bytes(folder: str | os.PathLike | None = None) -> Text:
    """The bytes of all ``*.py`` files of the standard library, split by file.

    Files come in the order of their relative paths, with ``/`` between folders. Those
    below a folder named ``test``, ``idlelib``, ``lib2to3``, ``site-packages``,
    ``dist-packages`` or ``__pycache__`` are left out. A file goes to validation if the
    MD5 of its relative path, as a number, is a multiple of ten, else to training: a
    tenth of the files, none in both.

    Args:
      folder: where the library lies, by default that of the running interpreter. Its
        text depends on the version: report ``sha256`` with what was measured on it.

    Returns:
      A :class:`Text`; about 10 MB and 0.6 MB for Python 3.11.

    Raises:
      ValueError: the folder has no source, or too little to be split.

    >>> from logitlab.data.standard_library import standard_library_bytes
    >>> text = standard_library_bytes()
    >>> text.train.dtype, len(text.train) > 5 * len(text.validation)
    (dtype('uint8'), True)
    """
    root = pathlib.Path(sysconfig.get_path("stdlib") if folder is None else folder)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    parts: dict[str, list] = {"train": [], "validation": []}
    for name in sorted(files):
        if _LEFT_OUT.isdisjoint(name.split("/")[:-1]):
            parts[_split_of(name)].append(files[name].read_bytes())
    texts = {split: b"".join(found) for split, found in parts.items()}
    for split, text in texts.items():
        if not text:
            raise ValueError(
                f"{root} has no Python source for {split}: the standard library may "
                "be zipped or stripped; give a folder that has it as *.py files"
            )
    train, validation = (np.frombuffer(text, np.uint8) for text in texts.values())
    digest = hashlib.sha256(texts["train"] + texts["validation"]).hexdigest()
    return Text(train, validation, digest)


def standard_library_text(modules: int, folder: str | os.PathLike | None = None) -> str:
    """The source of the first top-level modules of the standard library, by name.

    Packages are left out. What is not UTF-8 becomes a replacement character.

    Args:
      modules: how many ``*.py`` files, one after another.
      folder: where the library lies, by default that of the running interpreter, whose
        version the text depends on.

    Raises:
      ValueError: ``modules`` is below 1, or the folder has not that many.

    >>> from logitlab.data.standard_library import standard_library_text
    >>> "_Feature" in standard_library_text(1)
    True
    """
    root = pathlib.Path(sysconfig.get_path("stdlib") if folder is None else folder)
    files = sorted(root.glob("*.py"))
    if not 1 <= modules <= len(files):
        raise ValueError(f"modules is {modules}, expected 1 to {len(files)} in {root}")
    return "".join(file.read_text("utf-8", "replace") for file in files[:modules])


def _split_of(name):
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return "train" if int(digest, 16) % 10 else "validation"
