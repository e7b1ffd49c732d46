"""Decisions: logits and probabilities to actions."""

from logitlab.decisions.choice import (
    cascade_click_probs,
    mnl_log_probs,
    mnl_loss,
    mnl_optimal_allocation,
    mnl_welfare,
    vcg_payments,
)
from logitlab.decisions.overlap import (
    dice_score,
    iou_score,
    rank_dice,
    rank_iou,
    rank_volume,
    rankseg_rma,
)
from logitlab.decisions.speculative import (
    Speculation,
    acceptance_rate,
    expected_accepted_length,
    residual_distribution,
    speculative_sample,
    speculative_speedup,
)

__all__ = [
    "Speculation",
    "acceptance_rate",
    "cascade_click_probs",
    "dice_score",
    "expected_accepted_length",
    "iou_score",
    "mnl_log_probs",
    "mnl_loss",
    "mnl_optimal_allocation",
    "mnl_welfare",
    "rank_dice",
    "rank_iou",
    "rank_volume",
    "rankseg_rma",
    "residual_distribution",
    "speculative_sample",
    "speculative_speedup",
    "vcg_payments",
]
