"""Metrics: logits to a number you report. What is averaged is a :class:`Mean`."""

from logitlab.metrics.collapse import (
    nlm_alignment,
    softmax_collapse_fraction,
    softmax_collapse_rows,
    zero_loss_fraction,
)
from logitlab.metrics.flips import negative_flip_rate, relative_negative_flip_rate
from logitlab.metrics.judges import (
    conflict_ratio,
    expected_score,
    non_transitivity_ratio,
    pairwise_from_bidirectional,
    pairwise_from_perplexity,
)
from logitlab.metrics.mean import Mean, accuracy, mean_of, tree_norm
from logitlab.metrics.rank_errors import (
    RankStats,
    ce_decomposition,
    rank_error,
    rank_stats,
)

__all__ = [
    "Mean",
    "RankStats",
    "accuracy",
    "ce_decomposition",
    "conflict_ratio",
    "expected_score",
    "mean_of",
    "negative_flip_rate",
    "nlm_alignment",
    "non_transitivity_ratio",
    "pairwise_from_bidirectional",
    "pairwise_from_perplexity",
    "rank_error",
    "rank_stats",
    "relative_negative_flip_rate",
    "softmax_collapse_fraction",
    "softmax_collapse_rows",
    "tree_norm",
    "zero_loss_fraction",
]
