"""Studies and kept results by their names; old names say where they moved."""

import functools
import importlib
import pathlib

from ml_collections import ConfigDict

from experiments.common import moved
from logitlab.train import Study
from logitlab.train.config import check_name

HERE = pathlib.Path(__file__).parents[1]
RESULTS = HERE / "results"


@functools.cache
def modules() -> tuple[str, ...]:
    """What ``config.experiment`` may be: "sweep", "preference.noise" and so on."""
    names = []
    for path in HERE.rglob("*.py"):
        folders = path.relative_to(HERE).with_suffix("").parts
        if folders[0] not in ("common", "main") and path.name[0] != "_":
            names.append(".".join(folders))
    return tuple(sorted(names))


def build(config: ConfigDict) -> Study:
    """The study of the module that a config names.

    Raises:
      ValueError: there is no such module, or it refuses the config.
    """
    name = config.experiment
    if name not in modules() and (line := moved.module(name)):
        raise ValueError(line)
    check_name(name, modules(), "config.experiment")
    return importlib.import_module(f"experiments.{name}").build(config)


def kept(name: str) -> pathlib.Path:
    """Folder of the kept results of "preference:noise".

    Raises:
      ValueError: there is none.
    """
    folder = RESULTS / name.replace(":", "/")
    if not folder.is_dir():
        raise ValueError(moved.result(folder) or f"no results are kept of {name!r}")
    return folder
