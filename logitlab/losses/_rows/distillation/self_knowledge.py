"""Catalogue rows of ``logitlab.losses.distillation.self_knowledge``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.distillation.self_knowledge import uskd_loss


def _with_weak_head(key, shape, dtype):
    weak, rest = jax.random.split(key)
    logits, labels = class_labels(rest, shape, dtype)
    return logits, 3 * jax.random.normal(weak, shape, dtype), labels


ROWS = (
    Row(
        uskd_loss,
        "batch",
        _with_weak_head,
        "USKD, Yang et al. 2023, arXiv:2303.13005",
        definition="code",
        golden="uskd",
        gathers="classes are ranked",
        cost="classes are ranked, and three softmaxes are computed",
        surrogate="the soft labels carry no gradient",
    ),
)
