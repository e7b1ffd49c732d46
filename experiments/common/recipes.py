"""Config files: what there are, and the config that one makes."""

import ast
import importlib.util
import pathlib
import re
import shutil
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import base
from experiments.common import moved

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def docstring(path: str | pathlib.Path) -> str:
    """The docstring of a config file; empty if it has none."""
    text = pathlib.Path(path).read_text("utf-8")
    return ast.get_docstring(ast.parse(text)) or ""


def files() -> list[pathlib.Path]:
    """The config files, without that of the defaults and parts of others."""
    paths = sorted(CONFIGS.glob("*.py"))
    return [p for p in paths if not p.stem.startswith("_") and p.stem != "base"]


def variants(text: str) -> Iterator[tuple[str, str]]:
    """Names and descriptions from the section "Variants" of a docstring.

    A line of it holds one name or several, two spaces apart, and a description, which
    may go on in lines that are indented further.
    """
    _, _, section = text.partition("\nVariants")
    entries = []
    for line in section.splitlines()[1:]:
        if not line.startswith("  "):
            break
        if line[2] != " ":
            entries.append(line.strip())
        else:
            entries[-1] += f" {line.strip()}"
    for entry in entries:
        *names, description = re.split(r"\s{2,}", entry)
        for name in names:
            yield name, description


def listing(width: int | None = None) -> str:
    """A line for each config and for each of its variants.

    Args:
      width: in characters; the terminal's by default. Longer lines are cut.
    """
    width = width or shutil.get_terminal_size().columns
    lines = []
    for path in files():
        text = docstring(path)
        lines += [f"configs/{path.name}: {text.splitlines()[0]}"]
        rows = list(variants(text))
        longest = max(len(name) for name, _ in rows)
        lines += [f"  {name:<{longest}}  {words}" for name, words in rows]
    return "\n".join(_cut(line, width) for line in lines)


def _cut(line, width):
    if len(line) <= width:
        return line
    return line[: line.rindex(" ", 0, width - 3)] + " ..."


def read(name: str) -> ConfigDict:
    """The config of "configs/preference.py:noise", or of any other file.

    What the runner reads and the file does not set has the value of ``configs.base``.

    Raises:
      ValueError: there is no such file, it fails, or it has no such variant.
    """
    path, _, variant = name.partition(":")
    if not pathlib.Path(path).is_file():
        raise ValueError(moved.config(name) or f"there is no config file {path!r}")
    spec = importlib.util.spec_from_file_location("read_config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*[variant] if variant else [])
    except ValueError:
        raise
    except Exception as error:  # the file is a program, which may fail in any way
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"config file {path!r} fails: {said}") from error
    return base.complete(config)
