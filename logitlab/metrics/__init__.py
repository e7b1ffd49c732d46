"""Metrics: logits to a number you report. What is averaged is a :class:`Mean`."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.metrics.clustering import clustering_accuracy
from logitlab.metrics.collapse import (
    nlm_alignment,
    softmax_collapse_fraction,
    softmax_collapse_rows,
    zero_loss_fraction,
)
from logitlab.metrics.confusion import soft_confusion
from logitlab.metrics.flips import negative_flip_rate, relative_negative_flip_rate
from logitlab.metrics.intervals import coverage
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
from logitlab.metrics.vocabularies import coactivation_degree
from logitlab.metrics.weights import weight_kurtosis, weight_skewness

__all__ = [
    "Mean",
    "RankStats",
    "accuracy",
    "ce_decomposition",
    "clustering_accuracy",
    "coactivation_degree",
    "conflict_ratio",
    "coverage",
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
    "soft_confusion",
    "softmax_collapse_fraction",
    "softmax_collapse_rows",
    "tree_norm",
    "weight_kurtosis",
    "weight_skewness",
    "zero_loss_fraction",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
