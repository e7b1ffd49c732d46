"""What several arms make of the same key, and one program for the keys of all seeds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def once_per_key(make):
    """The value of a function of a key, made once for each key."""
    made = {}

    def get(key):
        name = jax.random.key_data(key).tobytes()
        if name not in made:
            made[name] = make(key)
        return made[name]

    return get


def all_seeds_at_once(config, make, *given, by: str = "vmap"):
    """A function of a seed's key, computed for all seeds of a config in one program.

    Args:
      config: its ``seed`` and ``seeds`` say which there are.
      make: (key, what is given for it) -> tree of arrays, traceable.
      *given: functions of a key as this one, computed before.
      by: "vmap" computes seeds side by side, "map" one after another, which takes less
        memory and, for large batches on few cores, less time.

    Returns:
      The same function of a key. Any other key is computed by itself.
    """

    def several(*rows):
        if by == "vmap":
            return jax.vmap(make)(*rows)
        return jax.lax.map(lambda row: make(*row), rows)

    @functools.cache
    def made():
        seeds = range(config.seed, config.seed + config.seeds)
        keys = [jax.random.key(seed) for seed in seeds]
        names = [jax.random.key_data(key).tobytes() for key in keys]
        rows = [[one(key) for key in keys] for one in given]
        rows = [jax.tree.map(lambda *a: np.stack(a), *row) for row in rows]
        return names, jax.device_get(jax.jit(several)(jnp.stack(keys), *rows))

    def get(key):
        names, values = made()
        name = jax.random.key_data(key).tobytes()
        if name not in names:
            return jax.jit(make)(key, *(one(key) for one in given))
        return jax.tree.map(lambda a: a[names.index(name)], values)

    return get
