"""Catalogue rows of ``logitlab.losses.ctc``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.ctc import ctc_loss

_SOURCE = "Graves et al. 2006, Connectionist Temporal Classification, ICML"


def _sequences(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    labels = jax.random.randint(
        labels_key, (*shape[:-2], 2), min(1, shape[-1] - 1), shape[-1]
    )
    # One of two labels is padding in every other sequence, both without a class.
    rows_ = jax.lax.broadcasted_iota(jnp.int32, labels.shape, 0)
    column = jax.lax.broadcasted_iota(jnp.int32, labels.shape, labels.ndim - 1)
    padding = (rows_ + column) % 4 == 1
    return logits, jnp.where(padding | (labels == 0), -1, labels)


ROWS = (
    Row(
        ctc_loss,
        "sequence",
        _sequences,
        _SOURCE,
        definition="paper",
        where=False,
        symmetric=False,
        shape=(4, 6, 5),
        cost="it holds log-probabilities of all frames and the states of the alignment",
    ),
)
