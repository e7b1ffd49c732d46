"""Catalogue rows of ``logitlab.losses.distillation.multi_level``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import (
    labelled_pairs,
    teacher_pairs,
)
from logitlab.losses.distillation.multi_level import (
    batch_correlation_loss,
    class_correlation_loss,
    mlkd_loss,
)


def _two_views(key, shape, dtype):
    """Logits of both views, of both models, and labels."""
    views, rest = jax.random.split(key)
    *pair, labels = labelled_pairs(rest, shape, dtype)
    weak, strong = teacher_pairs(views, shape, dtype)
    return weak, strong, *pair, labels


_MLKD = "MLKD, Jin et al. 2023 (CVPR)"


_CANCEL = "entries of two nearly equal matrices cancel; gradients are right to 1e-7"


ROWS = (
    Row(
        mlkd_loss,
        "batch",
        _two_views,
        _MLKD,
        definition="code",
        golden="mlkd",
        where=False,
        gathers="all pairs of classes and of examples are correlated",
        cost="correlations of all pairs of classes and of examples",
        note="The sum of three parts.",
        inexact="quantiles select examples, and confidences near 1 tie in float32",
    ),
    Row(
        class_correlation_loss,
        "batch",
        teacher_pairs,
        _MLKD,
        definition="code",
        golden="mlkd",
        where=False,
        gathers="all pairs of classes are correlated",
        cost="correlations of all pairs of classes",
        inexact=_CANCEL,
    ),
    Row(
        batch_correlation_loss,
        "batch",
        teacher_pairs,
        _MLKD,
        definition="code",
        golden="mlkd",
        where=False,
        gathers="all pairs of examples are compared",
        cost="correlations of all pairs of examples",
        inexact=_CANCEL,
    ),
)
