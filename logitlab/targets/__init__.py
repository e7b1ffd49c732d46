"""Labels, values and teachers to soft targets and pairs."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.targets.bins import (
    categorical_projection,
    categorical_value,
    hl_gauss_probs,
    two_hot_probs,
)
from logitlab.targets.clusters import (
    aggregate_labels,
    cluster_targets,
    label_correlation,
    private_aggregate_labels,
)
from logitlab.targets.factors import dirichlet_responsibilities
from logitlab.targets.mining import (
    batch_hard_pairs,
    distance_weighted_pairs,
    multi_similarity_pairs,
)
from logitlab.targets.pairs import Pairs, label_pairs, pair_probs
from logitlab.targets.teachers import (
    aspect_targets,
    compose_teacher_logits,
    omd_target,
    teacher_optimal_ranking,
    top_k_logits,
)

__all__ = [
    "Pairs",
    "aggregate_labels",
    "aspect_targets",
    "batch_hard_pairs",
    "categorical_projection",
    "categorical_value",
    "cluster_targets",
    "compose_teacher_logits",
    "dirichlet_responsibilities",
    "distance_weighted_pairs",
    "hl_gauss_probs",
    "label_correlation",
    "label_pairs",
    "multi_similarity_pairs",
    "omd_target",
    "pair_probs",
    "private_aggregate_labels",
    "teacher_optimal_ranking",
    "top_k_logits",
    "two_hot_probs",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
