"""Catalogue rows of ``logitlab.losses.imbalance.multilabel``."""

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses.imbalance.multilabel import (
    asymmetric_loss,
    multilabel_soft_margin_loss,
    sigmoid_focal_loss,
    zlpr_loss,
)


def _row(loss, kind, make, source, **facts):
    facts = dict(shift_invariant=False) | facts
    return Row(loss, kind, make, source, **facts)


ROWS = (
    _row(
        asymmetric_loss,
        "elementwise",
        binary_labels,
        "Ridnik et al. 2021, arXiv:2009.14119",
        definition="code",
        golden="asymmetric_loss",
    ),
    _row(
        sigmoid_focal_loss,
        "elementwise",
        binary_labels,
        "Lin et al. 2017, arXiv:1708.02002",
        definition="code",
        golden="standard_losses",
    ),
    _row(
        multilabel_soft_margin_loss,
        "example",
        binary_labels,
        "torch.nn.MultiLabelSoftMarginLoss",
        definition="code",
        convex=True,
        calibrated=True,
        cost="a sigmoid for each class, not one softmax for the row",
    ),
    _row(
        zlpr_loss,
        "example",
        binary_labels,
        "Su et al. 2022, arXiv:2208.02955",
        definition="paper",
        convex=True,
        cost="two sums of exponentials, over present and absent labels",
    ),
)
