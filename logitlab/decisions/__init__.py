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

__all__ = [
    "cascade_click_probs",
    "dice_score",
    "iou_score",
    "mnl_log_probs",
    "mnl_loss",
    "mnl_optimal_allocation",
    "mnl_welfare",
    "rank_dice",
    "rank_iou",
    "rank_volume",
    "rankseg_rma",
    "vcg_payments",
]
