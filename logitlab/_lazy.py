"""Imports of packages: on first use (PEP 562), or refused with what to install."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterable, Mapping


def attach(
    package: str,
    public: Iterable[str],
    *,
    modules: Iterable[str] = (),
    homes: Mapping[str, str] | None = None,
):
    """The ``__getattr__`` and ``__dir__`` of a package.

    Args:
      package: its ``__name__``.
      public: what ``dir`` lists; submodules are left out unless they are named here.
      modules: submodules that are imported on first use.
      homes: public name -> the submodule that defines it, imported on first use.

    Names that have moved (``logitlab._renamed``) resolve with a warning. Python itself
    adds the nearest public name to the message about an unknown one.
    """
    modules, homes = frozenset(modules), homes or {}

    def __getattr__(name):
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in homes:
            value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, value)
            return value
        return _moved(package, name)

    def __dir__():
        return sorted(public)

    return __getattr__, __dir__


def _moved(package, name):
    from logitlab._renamed import RENAMED

    room = package.partition(".")[2].partition(".")[0]
    new = RENAMED.get(room, {}).get(name)
    if new is None:
        raise AttributeError(
            f"module {package!r} has no attribute {name!r}",
            name=name,
            obj=sys.modules[package],
        )
    warnings.warn(
        f"logitlab.{room}.{name} is now logitlab.{new}",
        DeprecationWarning,
        stacklevel=3,
    )
    new_room, _, new_name = new.rpartition(".")
    return getattr(importlib.import_module(f"logitlab.{new_room}"), new_name)


@contextlib.contextmanager
def train_extra(what: str):
    """Names the extra to install where imports of ``what`` fail for want of it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "logitlab":
            raise
        raise ModuleNotFoundError(
            f"{what} needs {missing}: pip install 'logitlab[train]'", name=missing
        ) from None
