"""Catalogue rows of ``logitlab.losses.imbalance.replay``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.imbalance.replay import uer_loss


def _partly_replayed(key, shape, dtype):
    new, old, chance = jax.random.split(key, 3)
    logits, labels = class_labels(new, shape, dtype)
    linear = 3 * jax.random.normal(old, shape, dtype)
    replayed = jax.random.bernoulli(chance, 0.3, shape[:-1])
    return logits, linear, labels, replayed


ROWS = (
    Row(
        uer_loss,
        "example",
        _partly_replayed,
        "UER, Lin et al. 2023, arXiv:2309.04081",
        definition="inferred",
        convex=True,
        note=(
            "The logits are those of new examples; replayed ones have logits of their "
            "own."
        ),
    ),
)
