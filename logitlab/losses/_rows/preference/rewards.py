"""Catalogue rows of ``logitlab.losses.preference.rewards``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.rewards import bradley_terry_loss, plackett_luce_loss


def _ranked(key, shape, dtype):
    ranks = jax.random.uniform(jax.random.fold_in(key, 1), shape)
    return 3 * jax.random.normal(key, shape, dtype), jnp.argsort(ranks, -1)


ROWS = (
    draws.pair_row(
        bradley_terry_loss,
        "Bradley and Terry 1952",
        draws.without_reference,
        definition="paper",
        convex=True,
    ),
    Row(
        plackett_luce_loss,
        "example",
        _ranked,
        "Plackett 1975",
        definition="paper",
        convex=True,
        gathers="answers are compared in pairs",
    ),
)
