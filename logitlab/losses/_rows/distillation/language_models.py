"""Catalogue rows of ``logitlab.losses.distillation.language_models``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import teacher_pairs
from logitlab.losses.distillation.language_models import (
    aligndistil_loss,
    online_distill_loss,
    qcrd_loss,
)


def _three_models(key, shape, dtype):
    policy, others = jax.random.split(key)
    z = 3 * jax.random.normal(policy, shape, dtype)
    return z, *teacher_pairs(others, shape, dtype)


def _with_features(key, shape, dtype):
    logits, features = jax.random.split(key)
    wide = (2, *shape[:-1], shape[-1] + 2)
    return *teacher_pairs(logits, shape, dtype), *jax.random.normal(
        features, wide, dtype
    )


def _rationales(key, shape, dtype):
    good, bad = jax.random.split(key)
    more = (*shape[:-1], shape[-1] + 2)
    return tuple(
        5 * jax.random.uniform(k, size, dtype)
        for k, size in ((good, shape), (bad, more))
    )


ROWS = (
    Row(
        aligndistil_loss,
        "example",
        _three_models,
        "AlignDistil, Zhang et al. 2025, arXiv:2503.02832",
        definition="code",
        golden="aligndistil",
        cost="the teacher's logits are composed of two models' logits",
    ),
    Row(
        online_distill_loss,
        "example",
        _with_features,
        "SpecVLM, Huang et al. 2025, arXiv:2509.11815",
        definition="paper",
        convex=True,
        cost="both distributions and their ratio are arrays of the logits' size",
    ),
    Row(
        qcrd_loss,
        "example",
        _rationales,
        "QCRD, Wang et al. 2025, arXiv:2405.13014",
        definition="inferred",
        lower=None,
        shift_invariant=False,
        where=False,
        note="The arguments are cross-entropies of rationales.",
    ),
)
