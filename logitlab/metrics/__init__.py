"""Metrics: logits to a number you report. What is averaged is a :class:`Mean`."""

from logitlab.metrics.collapse import (
    nlm_alignment,
    softmax_collapse_fraction,
    softmax_collapse_rows,
    zero_loss_fraction,
)
from logitlab.metrics.mean import Mean, accuracy, mean_of, tree_norm

__all__ = [
    "Mean",
    "accuracy",
    "mean_of",
    "nlm_alignment",
    "softmax_collapse_fraction",
    "softmax_collapse_rows",
    "tree_norm",
    "zero_loss_fraction",
]
