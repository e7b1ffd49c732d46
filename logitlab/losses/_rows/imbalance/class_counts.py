"""Catalogue rows of ``logitlab.losses.imbalance.class_counts``."""

import jax.numpy as jnp

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.imbalance.class_counts import (
    balanced_softmax_loss,
    ldam_loss,
    logit_adjusted_loss,
)


def _with_counts(key, shape, dtype):
    counts = jnp.geomspace(100, 2, shape[-1]).round().astype(jnp.int32)
    return *class_labels(key, shape, dtype), counts


def _row(loss, source, **facts):
    facts = dict(definition="paper", convex=True) | facts
    return Row(loss, "example", _with_counts, source, **facts)


ROWS = (
    _row(balanced_softmax_loss, "Ren et al. 2020, arXiv:2007.10740"),
    _row(logit_adjusted_loss, "Menon et al. 2021, arXiv:2007.07314"),
    _row(
        ldam_loss,
        "Cao et al. 2019, arXiv:1906.07413",
        hyper=dict(scale=2.0),
        cost="the logits less the label's margin are another array",
    ),
)
