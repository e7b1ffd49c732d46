"""Pairs of words that follow each other in the source of the standard library."""

import collections
import functools
import pathlib
import re
import sysconfig

import jax
import jax.numpy as jnp
import numpy as np


@functools.cache
def pairs(modules: int, vocabulary: int) -> np.ndarray:
    """Ids of each word and of the next one, where both are common enough, [N, 2].

    Args:
      modules: how many there are to read, in the order of their names.
      vocabulary: how many words count, the most common ones; 0 is the first of them.
    """
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    files = sorted(folder.glob("*.py"))[:modules]
    texts = [file.read_text("utf-8", "replace").lower() for file in files]
    words = [re.findall("[a-z]+", text) for text in texts]
    counts = collections.Counter(word for text in words for word in text)
    if len(counts) < vocabulary:
        raise ValueError(f"there are {len(counts)} words, expected {vocabulary}")
    common = [word for word, _ in counts.most_common(vocabulary)]
    place = {word: i for i, word in enumerate(common)}
    ids = [np.array([place.get(word, -1) for word in text]) for text in words]
    both = np.concatenate([np.stack([i[:-1], i[1:]], -1) for i in ids])
    return both[(both >= 0).all(1)].astype(np.int32)


def divided(config, key: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """Different pairs to train on, to choose by, and to test, in a random order.

    Those to train on come in batches, one for each row.
    """
    found = pairs(config.modules, config.vocabulary)
    train = config.batches * config.batch_size
    sizes = {"train": train, "validation": config.validation, "test": config.test}
    if len(found) < sum(sizes.values()):
        raise ValueError(f"there are {len(found)} pairs, expected {sizes}")
    rows = jax.random.permutation(key, jnp.asarray(found))
    ends = np.cumsum(list(sizes.values()))
    parts = dict(zip(sizes, jnp.split(rows[: ends[-1]], ends[:-1]), strict=True))
    shape = config.batches, config.batch_size
    parts["train"] = parts["train"].reshape(*shape, 2)
    return {
        name: {"x": part[..., 0], "y": part[..., 1]} for name, part in parts.items()
    }
