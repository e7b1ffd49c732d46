"""Small data sets as studies use them: scaled, centered, and divided anew for a key.

This is the only place of the studies that loads rows by name.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from logitlab import data
from logitlab.train.config import check_name

FEATURES = ("standard", "unit")
DIGITS = 1797


class Digits(NamedTuple):
    """Images [N, 64] and digits [N]: to learn from and to test.

    Attributes:
      x: of training.
      y: their digits.
      test_x: the others.
      test_y: their digits.
    """

    x: jax.Array
    y: jax.Array
    test_x: jax.Array
    test_y: jax.Array


def splits(
    name: str, data_dir: str | None, features: str
) -> dict[str, dict[str, jax.Array]]:
    """The splits of a data set, ``{"train": dict(x=..., y=...), ...}``.

    Args:
      name: of :func:`logitlab.data.load`.
      data_dir: see there; "" is its default too.
      features: in the training split "standard" ones have mean 0 and deviation 1, and
        the largest "unit" one is 1.
    """
    check_name(features, FEATURES, "config.data.features")
    standard = features == "standard"
    parts = data.load(name, data_dir or None, standardize=standard)
    if standard:
        return parts
    largest = jnp.abs(parts["train"]["x"]).max()
    return {name: {**part, "x": part["x"] / largest} for name, part in parts.items()}


def all_rows(
    name: str, data_dir: str | None, scale: float
) -> tuple[jax.Array, jax.Array]:
    """All rows of a data set, features over ``scale`` less their mean, and labels."""
    parts = data.load(name, data_dir or None).values()
    x, y = (jnp.concatenate([part[name] for part in parts]) for name in "xy")
    x = x / scale
    return x - x.mean(0, keepdims=True), y


def digits(*, centered: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """All 1797 digits of scikit-learn in float64, which needs no folder.

    Args:
      centered: whether the mean image is taken off the pixels, which go from 0 to 1.
    """
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    x = x / 16
    return (x - x.mean(0) if centered else x), y


def divide(key: jax.Array, x: jax.Array, y: jax.Array, train: int) -> Digits:
    """A random part of ``train`` rows, and the others."""
    order = jax.random.permutation(key, len(y))
    mine, others = order[:train], order[train:]
    return Digits(x[mine], y[mine], x[others], y[others])


def images(*, centered: bool = True) -> tuple[jax.Array, jax.Array]:
    """The digits for :func:`divide`, as :func:`digits` has them: float32 and int32."""
    x, y = digits(centered=centered)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def standard_rows(name: str, data_dir: str | None) -> tuple[jax.Array, jax.Array]:
    """All rows of a data set for :func:`divide`: features of mean 0 and deviation 1."""
    x, y = all_rows(name, data_dir, 1.0)
    return x / x.std(0, keepdims=True), y


def check_train(train: int, rows: int = DIGITS, what: str = "digits") -> None:
    """Refuses a number of training rows that leaves none to test."""
    if not 1 <= train < rows:
        raise ValueError(
            f"config.train is {train}, expected 1 to {rows - 1} of {rows} {what}"
        )
