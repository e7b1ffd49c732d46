"""Catalogue rows of ``logitlab.losses.imbalance.label_skew``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.imbalance.label_skew import margin_control_loss

ROWS = (
    Row(
        margin_control_loss,
        "example",
        class_labels,
        "FedLD, Zeng et al. 2024, arXiv:2408.12300",
        definition="code",
        golden="fedld_margin",
        cost="probabilities and their squares are further arrays",
    ),
)
