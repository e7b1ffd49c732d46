"""Catalogue rows of ``logitlab.losses.distillation.model_updates``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row, class_labels
from logitlab.losses._rows.distillation.draws import labelled_pairs
from logitlab.losses.distillation.model_updates import (
    focal_distillation_loss,
    makd_loss,
    margin_calibrated_cross_entropy,
)


def _some_new(key, shape, dtype):
    classes = shape[-1]
    return *class_labels(key, shape, dtype), jnp.arange(classes) >= (classes + 1) // 2


def _with_aspects(key, shape, dtype):
    classes, aspects = jax.random.split(key)
    logits = 3 * jax.random.normal(classes, shape, dtype)
    labels = jax.random.randint(key, shape[:-1], 0, 2)
    size = (*shape[:-1], max(shape[-1] - 2, 0))
    return logits, labels, jax.random.uniform(aspects, size, dtype)


ROWS = (
    Row(
        margin_calibrated_cross_entropy,
        "example",
        _some_new,
        "Margin Preserving Training, arXiv:2511.08322",
        definition="code",
        hyper={"bias": 2.0},
        golden="mpt_negative_flips",
        convex=True,
        cost="the logits plus their bias are another array",
    ),
    Row(
        focal_distillation_loss,
        "example",
        labelled_pairs,
        "Yan et al. 2021, arXiv:2011.09161",
        definition="code",
        golden="mpt_negative_flips",
        convex=True,
        cost="both distributions and their ratio are arrays of the logits' size",
    ),
    Row(
        makd_loss,
        "example",
        _with_aspects,
        "MaKD, Lee et al. 2025, arXiv:2501.13341",
        definition="code",
        hyper={"num_classes": 2},
        golden="makd",
        shift_invariant=False,
        convex=True,
        where=False,
        symmetric=False,
        cost="a sigmoid for each aspect",
    ),
)
