"""Digits by class, long tails of them, and figures of parts of one arm."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from logitlab.train import ArmResult

CLASSES, EACH = 10, 174  # of the rarest digit


def by_class(key: jax.Array) -> jax.Array:
    """As many images of each digit in a random order, centered, [10, 174, 64]."""
    x, y = datasets.digits()
    chance = jax.random.uniform(key, (CLASSES, len(y)))
    mine = y == np.arange(CLASSES)[:, None]
    order = jnp.argsort(jnp.where(mine, chance, 2), -1)[:, :EACH]
    return jnp.float32(x)[order]


def sizes(largest: int, imbalance: float) -> list[int]:
    """Images of the classes from the most common to the rarest, at least one."""
    shares = imbalance ** (-np.arange(CLASSES) / (CLASSES - 1))
    return [max(1, int(n)) for n in np.floor(largest * shares + 1e-9)]


def long_tail(
    images: jax.Array, order: jax.Array, counts: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """The first images of each class, and their classes.

    Shapes: images [10, N, D], order [10] -> [sum of counts, D], [sum of counts]

    Args:
      images: by class.
      order: the classes, the most common one first; may be traced.
      counts: how many images of each, in that order.
    """
    ranks = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    return images[order[ranks], places], order[ranks]


def parted(
    draw: Callable[[Mapping[str, Any]], Any], parts: Mapping[str, tuple[str, str]]
) -> Callable[[Mapping[str, Any]], Any]:
    """A figure in which parts of arms are drawn as arms are.

    Args:
      draw: results -> figure; its metrics are what stands before the last slash of the
        arms' own, ``8`` for ``8/fused``.
      parts: label -> the arm, and what stands behind the slash.
    """

    def draw_parts(results):
        found = {}
        for label, (arm, part) in parts.items():
            if arm in results:
                names = [name for name in results[arm] if name.endswith(f"/{part}")]
                rows = [
                    {"arm": label, "seed": seed, "step": 0}
                    | {
                        name.removesuffix(f"/{part}"): results[arm].final(name)[place]
                        for name in names
                    }
                    for place, seed in enumerate(results[arm].seeds)
                ]
                found[label] = ArmResult(label, results[arm].seeds, rows)
        return draw(found)

    return draw_parts


def lead(arm: str, metric: str, other: str, scale: float = 100.0) -> Callable:
    """How far one number of an arm is above another, seed by seed, in points."""
    return lambda results: (
        scale * (results[arm].final(metric) - results[arm].final(other))
    )
