"""Catalogue rows of ``logitlab.losses.log_concave``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.log_concave import (
    checkered_cross_loss,
    cross_loss,
    sum_log_concave_loss,
)


def _partials(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


def _partials_and_weights(key, shape, dtype):
    key, weights_key = jax.random.split(key)
    weights = jax.nn.softmax(jax.random.normal(weights_key, shape, dtype))
    return *_partials(key, shape, dtype), weights


_SOURCE = "Achab 2023, arXiv:2309.15298"


ROWS = (
    Row(
        sum_log_concave_loss,
        kind="example",
        make=_partials,
        source=_SOURCE,
        definition="paper",
        shift_invariant=False,
        lower=None,
        where=False,
        note="Takes partial losses in place of logits.",
    ),
    Row(
        cross_loss,
        kind="example",
        make=_partials_and_weights,
        source=_SOURCE,
        definition="paper",
        shift_invariant=False,
        lower=None,
        where=False,
        surrogate="the weights are an argument and carry no gradient",
        note="Takes partial losses in place of logits.",
    ),
    Row(
        checkered_cross_loss,
        kind="sequence",
        make=_partials_and_weights,
        source=f"{_SOURCE}, proposition 5.7",
        definition="paper",
        convex=True,
        where=False,
        shape=(4, 2, 5),
        note="Takes logits of a checkered model's factors; one value per example.",
    ),
)
