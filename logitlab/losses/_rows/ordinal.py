"""Catalogue rows of ``logitlab.losses.ordinal``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.ordinal import (
    coral_loss,
    corn_loss,
    cumulative_logit_loss,
    proportional_odds_loss,
)

_SOURCE = "PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto"


def _thresholds(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    return logits, jax.random.randint(labels_key, shape[:-1], 0, shape[-1] + 1)


def _levels(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = jnp.sort(3 * jax.random.normal(logits_key, shape, dtype), -1)
    return logits, jax.random.randint(labels_key, shape[:-1], 0, shape[-1] + 1)


def _scores(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    labels = jax.random.randint(labels_key, shape, 0, 4)
    return logits, labels, jnp.array([-2, 0.5, 1], dtype)


_BINARY = dict(
    kind="example",
    make=_thresholds,
    shift_invariant=False,
    convex=True,
    where=False,
    symmetric=False,
)


ROWS = (
    Row(
        coral_loss,
        source="CORAL, Cao, Mirjalili and Raschka 2019, arXiv:1901.07884",
        definition="paper",
        note="Takes logits of thresholds, one fewer than classes.",
        **_BINARY,
    ),
    Row(
        corn_loss,
        source="CORN, Shi, Cao and Raschka 2021, arXiv:2111.08851",
        definition="paper",
        note="Takes logits of thresholds, one fewer than classes.",
        **_BINARY,
    ),
    Row(
        cumulative_logit_loss,
        "example",
        _levels,
        _SOURCE,
        definition="code",
        shift_invariant=False,
        upper=18.421,
        where=False,
        symmetric=False,
        note="Takes logits of thresholds, one fewer than classes; convex where they "
        "are in order.",
    ),
    Row(
        proportional_odds_loss,
        "elementwise",
        _scores,
        "McCullagh 1980",
        definition="paper",
        shift_invariant=False,
        convex=True,
        where=False,
        symmetric=False,
    ),
)
