"""What several arms make of the same key."""

import jax


def once_per_key(make):
    """The value of a function of a key, made once for each key."""
    made = {}

    def get(key):
        name = jax.random.key_data(key).tobytes()
        if name not in made:
            made[name] = make(key)
        return made[name]

    return get
