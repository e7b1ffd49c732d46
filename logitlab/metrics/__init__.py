"""Metrics: logits to a number you report. What is averaged is a :class:`Mean`."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.metrics.accuracy_estimates import (
    agreement_score,
    atc_accuracy,
    average_confidence,
    cot_error,
    difference_of_confidences,
    fit_atc,
    fit_confidence_gap,
    importance_reweighting,
)
from logitlab.metrics.activations import (
    ash_features,
    react_features,
    react_threshold,
)
from logitlab.metrics.anomaly import (
    local_neighborhood_aggregate,
    mutual_scores,
    rescore_by_neighborhood,
)
from logitlab.metrics.attribution import (
    attribution_nmae,
    direct_effect,
    direct_logit_attribution,
    importance_distribution,
    pairwise_order_agreement,
)
from logitlab.metrics.calibration import (
    brier_decomposition,
    brier_score,
    calibration_error,
    classwise_ece,
    debiased_ece,
    expected_calibration_error,
    nll,
    reliability_bins,
)
from logitlab.metrics.certificates import (
    Certificate,
    certify_lvm,
    clopper_pearson,
    empirical_bernstein,
    simplex_map,
    smoothed_lipschitz,
)
from logitlab.metrics.clustering import clustering_accuracy
from logitlab.metrics.collapse import (
    nlm_alignment,
    softmax_collapse_fraction,
    softmax_collapse_rows,
    zero_loss_fraction,
)
from logitlab.metrics.confidence_bins import CalibrationBins, calibration_bins
from logitlab.metrics.confusion import soft_confusion
from logitlab.metrics.dependence import (
    distance_correlation,
    distance_covariance,
    rff_cross_covariance,
    u_center,
)
from logitlab.metrics.detection import expected_perturbation_score, kernel_mmd_score
from logitlab.metrics.estimation import (
    class_means,
    dispersion_score,
    entropy_score,
    mano_criterion,
    mano_powers,
    mano_score,
    mde_score,
    nuclear_norm_score,
    softrun,
)
from logitlab.metrics.explanations import (
    explain,
    exponential_kernel_weights,
    lfa_error,
    shapley_kernel_weights,
)
from logitlab.metrics.fairness import (
    equal_opportunity,
    group_jsd,
    group_means,
    uf_index,
)
from logitlab.metrics.flips import (
    false_false_true,
    negative_flip_rate,
    prediction_stability,
    relative_negative_flip_rate,
)
from logitlab.metrics.graph_shift import (
    LebedScore,
    lebed_score,
    structure_discrepancy,
)
from logitlab.metrics.influence import (
    EkfacState,
    LayerCovariances,
    ekfac_covariances,
    ekfac_eigenvalues,
    ekfac_fit,
    ekfac_ihvp,
    influence_scores,
    kfac_state,
)
from logitlab.metrics.intervals import coverage
from logitlab.metrics.judges import (
    conflict_ratio,
    expected_score,
    non_transitivity_ratio,
    pairwise_from_bidirectional,
    pairwise_from_perplexity,
)
from logitlab.metrics.kernels import empirical_ntk, kernel_alignment
from logitlab.metrics.mean import Mean, accuracy, mean_of, tree_norm
from logitlab.metrics.multiplicity import (
    DiscrepancyBounds,
    Multiplicity,
    discrepancy_bounds,
    empirical_multiplicity,
    predictive_ambiguity,
)
from logitlab.metrics.neighborhoods import icnn_score
from logitlab.metrics.ood_scores import (
    doctor_alpha_score,
    energy_score,
    gen_score,
    kl_matching_score,
    kl_matching_templates,
    log_odds_score,
    logit_margin_score,
    max_logit_score,
    msp_score,
    neg_entropy_score,
    odin_score,
    probability_margin_score,
)
from logitlab.metrics.pair_separation import pair_overlap, wdfs_gap
from logitlab.metrics.rank_errors import (
    RankStats,
    ce_decomposition,
    rank_error,
    rank_stats,
)
from logitlab.metrics.retraining import fit_pseudo_labels, projection_norm
from logitlab.metrics.retrieval import (
    map_at_r,
    normalized_mutual_information,
    r_precision,
    recall_at_k,
)
from logitlab.metrics.robustness import union_accuracy
from logitlab.metrics.selective import (
    RiskCoverage,
    aupr,
    aurc,
    auroc,
    excess_aurc,
    fpr_at_tpr,
    risk_at_thresholds,
    risk_coverage,
)
from logitlab.metrics.spectra import nuclear_norm
from logitlab.metrics.text import (
    compression_ratio,
    distinct_n,
    embedding_coverage,
    remote_clique,
    self_bleu,
    unigram_entropy,
    unique_ratio,
    vendi_score,
)
from logitlab.metrics.vocabularies import coactivation_degree
from logitlab.metrics.weights import weight_kurtosis, weight_skewness

__all__ = [
    "CalibrationBins",
    "Certificate",
    "DiscrepancyBounds",
    "EkfacState",
    "LayerCovariances",
    "LebedScore",
    "Mean",
    "Multiplicity",
    "RankStats",
    "RiskCoverage",
    "accuracy",
    "agreement_score",
    "ash_features",
    "atc_accuracy",
    "attribution_nmae",
    "aupr",
    "aurc",
    "auroc",
    "average_confidence",
    "brier_decomposition",
    "brier_score",
    "calibration_bins",
    "calibration_error",
    "ce_decomposition",
    "certify_lvm",
    "class_means",
    "classwise_ece",
    "clopper_pearson",
    "clustering_accuracy",
    "coactivation_degree",
    "compression_ratio",
    "conflict_ratio",
    "cot_error",
    "coverage",
    "debiased_ece",
    "difference_of_confidences",
    "direct_effect",
    "direct_logit_attribution",
    "discrepancy_bounds",
    "dispersion_score",
    "distance_correlation",
    "distance_covariance",
    "distinct_n",
    "doctor_alpha_score",
    "ekfac_covariances",
    "ekfac_eigenvalues",
    "ekfac_fit",
    "ekfac_ihvp",
    "embedding_coverage",
    "empirical_bernstein",
    "empirical_multiplicity",
    "empirical_ntk",
    "energy_score",
    "entropy_score",
    "equal_opportunity",
    "excess_aurc",
    "expected_calibration_error",
    "expected_perturbation_score",
    "expected_score",
    "explain",
    "exponential_kernel_weights",
    "false_false_true",
    "fit_atc",
    "fit_confidence_gap",
    "fit_pseudo_labels",
    "fpr_at_tpr",
    "gen_score",
    "group_jsd",
    "group_means",
    "icnn_score",
    "importance_distribution",
    "importance_reweighting",
    "influence_scores",
    "kernel_alignment",
    "kernel_mmd_score",
    "kfac_state",
    "kl_matching_score",
    "kl_matching_templates",
    "lebed_score",
    "lfa_error",
    "local_neighborhood_aggregate",
    "log_odds_score",
    "logit_margin_score",
    "mano_criterion",
    "mano_powers",
    "mano_score",
    "map_at_r",
    "max_logit_score",
    "mde_score",
    "mean_of",
    "msp_score",
    "mutual_scores",
    "neg_entropy_score",
    "negative_flip_rate",
    "nll",
    "nlm_alignment",
    "non_transitivity_ratio",
    "normalized_mutual_information",
    "nuclear_norm",
    "nuclear_norm_score",
    "odin_score",
    "pair_overlap",
    "pairwise_from_bidirectional",
    "pairwise_from_perplexity",
    "pairwise_order_agreement",
    "prediction_stability",
    "predictive_ambiguity",
    "probability_margin_score",
    "projection_norm",
    "r_precision",
    "rank_error",
    "rank_stats",
    "react_features",
    "react_threshold",
    "recall_at_k",
    "relative_negative_flip_rate",
    "reliability_bins",
    "remote_clique",
    "rescore_by_neighborhood",
    "rff_cross_covariance",
    "risk_at_thresholds",
    "risk_coverage",
    "self_bleu",
    "shapley_kernel_weights",
    "simplex_map",
    "smoothed_lipschitz",
    "soft_confusion",
    "softmax_collapse_fraction",
    "softmax_collapse_rows",
    "softrun",
    "structure_discrepancy",
    "tree_norm",
    "u_center",
    "uf_index",
    "unigram_entropy",
    "union_accuracy",
    "unique_ratio",
    "vendi_score",
    "wdfs_gap",
    "weight_kurtosis",
    "weight_skewness",
    "zero_loss_fraction",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
