"""Catalogue rows of ``logitlab.losses.imbalance.experts``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.imbalance.experts import (
    drm_loss,
    gaussian_score_loss,
    mixup_smoothing_loss,
    multi_branch_loss,
    sade_loss,
)


def _some_labels(key, shape):
    """None is the last class, which the tests hide."""
    return jax.random.randint(key, shape[:-1], 0, max(shape[-1] - 1, 1))


def _experts(key, shape, dtype):
    keys = jax.random.split(key)
    logits = 3 * jax.random.normal(keys[0], shape, dtype)
    labels = _some_labels(keys[1], shape)
    counts = jnp.geomspace(100, 2, shape[-1]).round().astype(jnp.int32)
    return logits, labels[..., 0], counts


def _branches(key, shape, dtype):
    keys = jax.random.split(key)
    bias = 3 * jax.random.normal(keys[1], shape, dtype)
    logits, labels = class_labels(keys[0], shape, dtype)
    return logits, bias, labels


def _mixed(key, shape, dtype):
    keys = jax.random.split(key, 3)
    logits, labels = class_labels(keys[0], shape, dtype)
    others = _some_labels(keys[1], shape)
    return logits, labels, others, jax.random.uniform(keys[2], labels.shape, dtype)


def _domains(key, shape, dtype):
    keys = jax.random.split(key)
    logits = 3 * jax.random.normal(keys[0], shape, dtype)
    labels = _some_labels(keys[0], shape)
    domains = jax.random.randint(keys[1], shape[:-2], 0, shape[-2] - 1)
    return logits, labels[..., 0], domains


def _scores(key, shape, dtype):
    keys = jax.random.split(key, 3)
    mean, target = jax.random.normal(keys[0], (2, *shape), dtype)
    return mean, jax.random.normal(keys[1], shape, dtype), target


ROWS = (
    Row(
        sade_loss,
        "example",
        _experts,
        "SADE, Zhang et al. 2022, arXiv:2107.09249",
        definition="code",
        golden="sade_loss",
        convex=True,
        shape=(4, 3, 5),
        where=False,
        symmetric=False,  # classes have ranks
        note="Of three experts' logits; one value for each of them.",
    ),
    Row(
        multi_branch_loss,
        "example",
        _branches,
        "AMU-Tuning, Tang et al. 2024, arXiv:2404.08958",
        definition="code",
        golden="amu_fusion",
        cost="it standardizes one array and compares two with the label",
    ),
    Row(
        drm_loss,
        "sequence",
        _domains,
        "Domain-Specific Risk Minimization, Zhang et al. 2023, arXiv:2208.08661",
        definition="code",
        convex=True,
        shape=(5, 3, 4),
        symmetric=False,  # no label is the last class
        note="Of the heads' logits; one value per example.",
    ),
    Row(
        mixup_smoothing_loss,
        "example",
        _mixed,
        "BANG, Lin et al. 2024, arXiv:2309.17230",
        definition="inferred",
        convex=True,
        symmetric=False,  # no other label is the last class
    ),
    Row(
        gaussian_score_loss,
        "elementwise",
        _scores,
        "WiCo, Cheng et al. 2023, arXiv:2306.10750",
        definition="inferred",
        shift_invariant=False,
        convex=True,
        lower=-5.0,
        where=False,
        shape=(6,),
    ),
)
