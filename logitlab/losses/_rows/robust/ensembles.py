"""Catalogue rows of ``logitlab.losses.robust.ensembles``."""

import jax

from logitlab.losses._rows import Row, binary_labels, class_labels
from logitlab.losses.robust.ensembles import ensloss, multiclass_ensloss


def _binary_batch(key, shape, dtype):
    logits, labels = binary_labels(key, shape, dtype)
    return logits, labels, jax.random.fold_in(key, 1)


def _class_batch(key, shape, dtype):
    logits, labels = class_labels(key, shape, dtype)
    return logits, labels, jax.random.fold_in(key, 1)


ROWS = (
    Row(
        multiclass_ensloss,
        "batch",
        _class_batch,
        "EnsLoss, ICML 2025, github.com/statmlben/ensLoss",
        definition="inferred",
        lower=None,
        smooth=False,
        surrogate="only the derivative of the drawn loss is known",
        gathers="a batch is sorted on one device",
        note="Our extension of ``ensloss`` to more than two classes.",
    ),
    Row(
        ensloss,
        "batch",
        _binary_batch,
        "EnsLoss, ICML 2025, github.com/statmlben/ensLoss",
        definition="code",
        golden="ensloss",
        shift_invariant=False,
        lower=None,
        calibrated=True,
        where=False,
        smooth=False,
        surrogate="only the derivative of the drawn loss is known",
        gathers="a batch is sorted on one device",
        shape=(6,),
    ),
)
