"""Config entries to functions, with did-you-mean errors."""

import copy
import difflib
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections


def pick(module, name: str, **kwargs) -> Callable:
    """``module.name`` with ``kwargs`` bound; a wrong name lists the near ones.

    Raises:
      ValueError: no public function of the module has that name.
    """
    names = getattr(module, "__all__", None) or [
        n for n in dir(module) if n[0] != "_" and callable(getattr(module, n))
    ]
    check_name(name, names, module.__name__)
    return functools.partial(getattr(module, name), **kwargs)


def check_name(name: str, names: Iterable[str], what: str) -> str:
    """Returns ``name`` if it is one of ``names``.

    Raises:
      ValueError: it is not; the message lists the near ones, or all.
    """
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names) or names
        raise ValueError(f"{what} has no {name!r}; did you mean {', '.join(near)}?")
    return name


def arm_configs(config: ml_collections.ConfigDict) -> dict:
    """The config of every arm: the common one with the arm's entries laid over it.

    Raises:
      ValueError: an arm sets a key that the common config lacks, or another type.
    """
    arms = {}
    for name, overrides in config.arms.items():
        arm = config.copy_and_resolve_references()  # a ConfigDict shares what it nests
        with arm.unlocked():
            del arm["arms"]
        try:
            arm.update(overrides)
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.arms.{name}: {error.args[0]}") from None
        arms[name] = arm.lock()
    return arms


def flat(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """``{"optim.learning_rate": 0.01, ...}``: dotted keys, plain values."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ml_collections.ConfigDict)) and len(value):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def to_json(config: ml_collections.ConfigDict) -> str:
    """The config as it stands in ``config.json``: sorted, readable, reproducible."""
    plain = copy.deepcopy(config).to_dict()
    return json.dumps(plain, indent=2, sort_keys=True, default=list) + "\n"


def differences(before: Mapping, after: Mapping) -> list[str]:
    """A line for each dotted key at which two configs differ.

    The experiment and the variant come first.
    """
    before, after = flat(before), flat(after)
    absent = object()
    first = ("experiment", "variant")
    keys = sorted(before.keys() | after.keys(), key=lambda key: (key not in first, key))
    return [
        f"{key}: {before.get(key, '(absent)')!r} there, "
        f"{after.get(key, '(absent)')!r} here"
        for key in keys
        if before.get(key, absent) != after.get(key, absent)
    ]


def log_points(steps: int, per_decade: int = 20) -> list[int]:
    """Steps that look evenly spaced on a logarithmic axis, 0 and the last included.

    Raises:
      ValueError: ``steps`` is negative, or ``per_decade`` below 1.

    >>> from logitlab.train import log_points
    >>> log_points(100, per_decade=2)
    [0, 1, 3, 10, 32, 100]
    """
    if steps < 0 or per_decade < 1:
        raise ValueError(
            f"steps is {steps}, per_decade {per_decade}; expected at least 0 and 1"
        )
    points, exponent = {0, steps}, 0
    while (step := round(10 ** (exponent / per_decade))) < steps:
        points.add(step)
        exponent += 1
    return sorted(points)
