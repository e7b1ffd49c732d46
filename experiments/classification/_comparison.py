"""Losses by name for comparisons, also those that draw or that remember."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from logitlab import data
from logitlab.losses.catalogue import CATALOGUE
from logitlab.train.config import check_name

STATES = {"lam_state": "lam0"}  # a state -> the hyper-parameter that it starts at


class Named(NamedTuple):
    """A loss of the catalogue with its hyper-parameters.

    Attributes:
      label: its name in legends.
      values: (logits, labels, state, key) -> losses [B], new state [B].
      start: the state of an example before its first visit; 0 of a loss without one.
      remembers: whether it has a state.
    """

    label: str
    values: Callable[..., tuple[jax.Array, jax.Array]]
    start: float
    remembers: bool


def named_loss(name: str, entry) -> Named:
    """The loss that an entry of ``config.losses`` describes.

    Args:
      name: of the entry, for messages.
      entry: ``label``, ``name`` in the catalogue, and its hyper-parameters.

    Raises:
      ValueError: no such loss or hyper-parameter, or one of arrays that a comparison
        cannot give.
    """
    hyper = {key: entry[key] for key in entry if key not in ("label", "name")}
    row = CATALOGUE[check_name(entry.name, CATALOGUE, f"config.losses.{name}.name")]
    parameters = inspect.signature(row.loss).parameters
    for key in hyper:
        check_name(key, parameters, f"config.losses.{name}: {entry.name}")
    arrays = [
        p.name
        for p in parameters.values()
        if p.kind is not p.KEYWORD_ONLY and p.default is p.empty
    ]
    more = arrays[2:]
    if arrays[:2] != ["logits", "labels"] or (more and more != ["key"] and (
        len(more) > 1 or more[0] not in STATES)):  # fmt: skip
        raise ValueError(
            f"config.losses.{name}.name is {entry.name!r}, expected a loss of logits, "
            f"labels and a key or a state; it takes {', '.join(arrays)}"
        )
    remembers = bool(more) and more[0] in STATES
    start = 0.0
    if remembers:
        begins = STATES[more[0]]
        start = float(hyper.get(begins, parameters[begins].default))

    def values(logits, labels, state, key):
        if remembers:
            return row.loss(logits, labels, state, **hyper)
        if row.kind == "batch" and more:  # on one score of two classes
            logits = logits[:, 1] - logits[:, 0]
        found = row.loss(logits, labels, *([key] if more else []), **hyper)
        found = found[0] if isinstance(found, tuple) else found
        return jnp.broadcast_to(found, labels.shape), state

    return Named(entry.label, values, start, remembers)


def uniform_noise(key, labels, classes, rate):
    """Labels redrawn among all classes, their own included."""
    return data.symmetric_noise(key, labels, classes, rate * (1 - 1 / classes))


NOISES = {
    "uniform": uniform_noise,
    "symmetric": data.symmetric_noise,
    "cyclic": data.pair_noise,
}
