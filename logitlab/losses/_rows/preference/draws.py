"""Arguments and rows of the catalogue for losses of pairs and of sequences."""

import jax

from logitlab.losses._rows import Row

__all__ = ["pair_row", "referenced", "with_lengths", "without_reference"]


def without_reference(key, shape, dtype):
    """Scores of chosen and of rejected answers."""
    return tuple(3 * jax.random.normal(key, (2, *shape), dtype))


def referenced(key, shape, dtype):
    """The same, and those of a reference that is not far from them."""
    pair = without_reference(key, shape, dtype)
    noise = jax.random.normal(jax.random.fold_in(key, 1), (2, *shape), dtype)
    return *pair, *(a + n for a, n in zip(pair, noise, strict=True))


def with_lengths(key, shape, dtype):
    """The same, and the lengths of both answers."""
    lengths = jax.random.randint(jax.random.fold_in(key, 2), (2, *shape), 1, 9)
    return *referenced(key, shape, dtype), *lengths


def pair_row(loss, source, make=referenced, **facts):
    """A row of a loss of pairs of scores."""
    facts = dict(where=False, symmetric=False, shape=(6,)) | facts
    return Row(loss, "pair", make, source, **facts)
