"""Decisions: logits and probabilities to actions."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.decisions.choice import (
    cascade_click_probs,
    mnl_log_probs,
    mnl_optimal_allocation,
    mnl_welfare,
    vcg_payments,
)
from logitlab.decisions.conformal import (
    conformal_scores,
    conformal_set,
    conformal_threshold,
)
from logitlab.decisions.draft_trees import (
    CandidateChoice,
    DraftTree,
    TreeSpeculation,
    draft_tree_mask,
    grow_draft_tree,
    speculative_candidates,
    speculative_tree,
)
from logitlab.decisions.overlap import (
    dice_optimal_mask,
    dice_score,
    iou_optimal_mask,
    iou_score,
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
from logitlab.decisions.utility import candidate_probs, mbr_decision

__all__ = [
    "CandidateChoice",
    "DraftTree",
    "Speculation",
    "TreeSpeculation",
    "acceptance_rate",
    "candidate_probs",
    "cascade_click_probs",
    "conformal_scores",
    "conformal_set",
    "conformal_threshold",
    "dice_optimal_mask",
    "dice_score",
    "draft_tree_mask",
    "expected_accepted_length",
    "grow_draft_tree",
    "iou_optimal_mask",
    "iou_score",
    "mbr_decision",
    "mnl_log_probs",
    "mnl_optimal_allocation",
    "mnl_welfare",
    "rank_volume",
    "rankseg_rma",
    "residual_distribution",
    "speculative_candidates",
    "speculative_sample",
    "speculative_speedup",
    "speculative_tree",
    "vcg_payments",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
