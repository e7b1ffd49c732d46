"""Catalogue rows of ``logitlab.losses.policy_gradient.sampled_answers``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.policy_gradient.sampled_answers import awr_loss, best_of_n_loss


def _drawn(key, shape, dtype):
    """Logits, three answers for each row, none the last class, and their rewards."""
    keys = jax.random.split(key, 3)
    drawn = (*shape[:-1], 3)
    return (
        3 * jax.random.normal(keys[0], shape, dtype),
        jax.random.randint(keys[1], drawn, 0, max(shape[-1] - 1, 1)),
        # Weights of at least 1 after the mean: less than that of what overflows is not.
        jnp.log(3.0).astype(dtype) + jnp.abs(jax.random.normal(keys[2], drawn, dtype)),
    )


ROWS = (
    Row(
        best_of_n_loss,
        "example",
        _drawn,
        "Tajwar et al. 2024, arXiv:2404.14367",
        definition="code",
        convex=True,
        symmetric=False,  # the answers are classes too, but none of the labels
    ),
    Row(
        awr_loss,
        "example",
        _drawn,
        "Peng et al. 2019, arXiv:1910.00177",
        definition="code",
        hyper={"temperature": 1.0},
        convex=True,
        symmetric=False,  # the answers are classes too, but none of the labels
    ),
)
