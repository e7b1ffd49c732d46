"""Catalogue rows of ``logitlab.losses.contrastive``."""

import jax
import jax.numpy as jnp


def labelled(key, shape, dtype):
    """Embeddings, and labels of three classes."""
    count = shape[0]
    return 3 * jax.random.normal(key, shape, dtype), jnp.arange(count) % 3


def two_views(key, shape, dtype):
    """Embeddings of two views of the same examples."""
    first, second = jax.random.normal(key, (2, *shape), dtype)
    return 3 * first, 3 * second


def with_kernel(key, shape, dtype):
    """Embeddings, labels, and a column for each class."""
    e_key, y_key, w_key = jax.random.split(key, 3)
    width = shape[-1]
    return (
        3 * jax.random.normal(e_key, shape, dtype),
        jax.random.randint(y_key, shape[:-1], 0, width + 1),
        jax.random.normal(w_key, (width, width + 1), dtype),
    )


NOTE = "The first argument is embeddings."
GATHERS = "every anchor is compared with all examples"
COST = "it holds arrays of all pairs of examples"
EMBEDDINGS = dict(
    shift_invariant=False,
    where=False,
    symmetric=False,
    note=NOTE,
    rtol=1e-4,
)
"""What holds of every loss of embeddings; ``rtol`` is cosines' error times a scale."""
BATCH = EMBEDDINGS | dict(kind="batch", gathers=GATHERS, cost=COST, shape=(7, 5))
EXAMPLE = EMBEDDINGS | dict(
    kind="example",
    make=with_kernel,
    gathers="embeddings split along their width are multiplied in parts, and logits "
    "are the sum",
)
