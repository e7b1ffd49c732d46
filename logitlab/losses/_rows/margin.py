"""Catalogue rows of ``logitlab.losses.margin``."""

import jax

from logitlab.losses._rows import Row, binary_labels, class_labels
from logitlab.losses.margin import (
    l2_svm_objective,
    lee_lin_wahba_loss,
    multi_margin_loss,
    multiclass_hinge_loss,
    multilabel_margin_loss,
    ovr_hinge_loss,
    squared_hinge_loss,
    weston_watkins_loss,
)


def _losses_and_kernel(key, shape, dtype):
    losses_key, kernel_key = jax.random.split(key)
    losses = jax.random.exponential(losses_key, shape, dtype)
    return losses, jax.random.normal(kernel_key, (3, 2), dtype)


def _row(loss, source, **facts):
    facts = dict(convex=True, smooth=False) | facts
    return Row(loss, "example", class_labels, source, **facts)


ROWS = (
    _row(
        multiclass_hinge_loss,
        "Crammer and Singer 2001, JMLR 2",
        definition="code",
        golden="robust_baselines",
        cost="margins to all rivals are kept for the gradient",
    ),
    _row(
        weston_watkins_loss,
        "Weston and Watkins 1999",
        definition="code",
        golden="standard_losses",
        cost="margins to all rivals are kept for the gradient",
    ),
    _row(
        lee_lin_wahba_loss,
        "Lee, Lin and Wahba 2004, JASA 99",
        definition="paper",
        calibrated=True,
        cost="centered logits and their hinges are two more arrays",
    ),
    _row(
        multi_margin_loss,
        "torch.nn.MultiMarginLoss, after Weston and Watkins 1999",
        definition="code",
        golden="standard_losses",
        cost="margins to all rivals are kept for the gradient",
    ),
    Row(
        multilabel_margin_loss,
        "example",
        binary_labels,
        "torch.nn.MultiLabelMarginLoss; Crammer and Singer 2003, JMLR 3",
        definition="code",
        convex=True,
        smooth=False,
        gathers="the classes of a row are sorted on one device",
    ),
    _row(
        ovr_hinge_loss,
        "Rifkin and Klautau 2004, JMLR 5",
        definition="paper",
        shift_invariant=False,
    ),
    _row(
        squared_hinge_loss,
        "Rifkin and Klautau 2004, JMLR 5",
        definition="paper",
        shift_invariant=False,
    ),
    Row(
        l2_svm_objective,
        "batch",
        _losses_and_kernel,
        "Agarap 2018, arXiv:1709.03082",
        definition="code",
        shift_invariant=False,
        convex=True,
        lower=None,
        where=False,
        shape=(6,),
        note="Takes losses and a kernel in place of logits.",
    ),
)
