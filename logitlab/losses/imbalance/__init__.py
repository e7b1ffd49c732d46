"""Losses and weights for rare classes, rare labels and rare samples."""

from logitlab.losses.imbalance import (
    class_counts,
    hybrids,
    multilabel,
    sample_weights,
)
from logitlab.losses.imbalance.class_counts import (
    balanced_softmax_loss,
    class_balanced_weights,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
)
from logitlab.losses.imbalance.hybrids import (
    jaccard_contrastive_loss,
    label_correlation,
    label_correlation_loss,
    lca_loss,
    multilabel_hybrid_loss,
    weighted_bce,
)
from logitlab.losses.imbalance.multilabel import (
    asymmetric_loss,
    multilabel_soft_margin,
    sigmoid_focal_loss,
    zlpr_loss,
)
from logitlab.losses.imbalance.sample_weights import (
    cluster_likelihood,
    dequity_weight,
    generalized_focal_loss,
    loss_scores,
    loss_weights,
    reweighted_loss,
)

__all__ = [
    "asymmetric_loss",
    "balanced_softmax_loss",
    "class_balanced_weights",
    "cluster_likelihood",
    "dequity_weight",
    "generalized_focal_loss",
    "inverse_frequency_weights",
    "jaccard_contrastive_loss",
    "label_correlation",
    "label_correlation_loss",
    "lca_loss",
    "ldam_loss",
    "logit_adjusted_loss",
    "loss_scores",
    "loss_weights",
    "multilabel_hybrid_loss",
    "multilabel_soft_margin",
    "reweighted_loss",
    "sigmoid_focal_loss",
    "weighted_bce",
    "zlpr_loss",
]

ROWS = class_counts.ROWS + multilabel.ROWS + hybrids.ROWS + sample_weights.ROWS
