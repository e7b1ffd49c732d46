"""What several arms make of the same key, and what one makes of all keys at once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def once_per_key(make):
    """The value of a function of a key, made once for each key."""
    made = {}

    def get(key):
        name = jax.random.key_data(key).tobytes()
        if name not in made:
            made[name] = make(key)
        return made[name]

    return get


def all_at_once(
    seeds: Iterable[int], values: Callable[[jax.Array], Mapping[str, Any]]
) -> Callable[[jax.Array], Mapping[str, Any]]:
    """A function of the key of one of the seeds, computed for all in one program.

    Args:
      seeds: of the study.
      values: key -> named arrays, jitted where it matters; is mapped over the keys.
    """
    made = {}

    def get(key):
        if not made:
            keys = jax.vmap(jax.random.key)(jnp.asarray(list(seeds)))
            rows = jax.device_get(jax.vmap(values)(keys))
            for i, data in enumerate(jax.random.key_data(keys)):
                made[data.tobytes()] = {name: a[i] for name, a in rows.items()}
        return made[jax.random.key_data(key).tobytes()]

    return get
