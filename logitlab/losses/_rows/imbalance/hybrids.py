"""Catalogue rows of ``logitlab.losses.imbalance.hybrids``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses.imbalance.hybrids import (
    jaccard_contrastive_loss,
    label_correlation_loss,
    lca_loss,
    multilabel_hybrid_loss,
    weighted_binary_cross_entropy,
)


def _with_class_weights(key, shape, dtype):
    return *binary_labels(key, shape, dtype), jnp.linspace(0.5, 2, shape[-1])


def _with_correlation(key, shape, dtype):
    c = shape[-1]
    corr = jax.random.uniform(jax.random.fold_in(key, 1), (c, c), minval=-1)
    return *binary_labels(key, shape, dtype), corr


def _embeddings(key, shape, dtype):
    embeddings, _ = binary_labels(key, shape, dtype)
    labels = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (shape[0], 3))
    return embeddings, labels.astype(jnp.int32)


def _everything(key, shape, dtype):
    logits, labels, corr = _with_correlation(key, shape, dtype)
    embeddings = jax.random.normal(jax.random.fold_in(key, 2), (shape[0], 3), dtype)
    return logits, labels, embeddings, jnp.linspace(0.5, 2, shape[-1]), corr


def _row(loss, kind, make, source, **facts):
    facts = dict(shift_invariant=False) | facts
    return Row(loss, kind, make, source, **facts)


_HYBRID = "Hybrid loss for Arabic multi-label emotions, 2024, arXiv:2410.03979"


ROWS = (
    _row(
        weighted_binary_cross_entropy,
        "example",
        _with_class_weights,
        _HYBRID,
        definition="inferred",
        convex=True,
        cost="a sigmoid for each class, not one softmax for the row",
    ),
    _row(
        label_correlation_loss,
        "example",
        _with_correlation,
        _HYBRID,
        definition="inferred",
        upper=1.0,
        gathers="labels are compared in pairs",
    ),
    _row(
        lca_loss,
        "example",
        binary_labels,
        "Yeh et al. 2017, arXiv:1707.00418",
        definition="paper",
        upper=2.7182818284590455,
        cost="it holds exponentials of all probabilities and of their complements",
    ),
    _row(
        jaccard_contrastive_loss,
        "batch",
        _embeddings,
        _HYBRID,
        definition="inferred",
        where=False,
        upper=2.0,
        smooth=False,
        gathers="examples are compared in pairs",
        note="Takes embeddings in place of logits.",
    ),
    _row(
        multilabel_hybrid_loss,
        "batch",
        _everything,
        _HYBRID,
        definition="inferred",
        smooth=False,
        gathers="examples and labels are compared in pairs",
    ),
)
