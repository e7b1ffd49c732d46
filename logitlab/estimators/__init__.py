"""Estimators fitted in closed form or by a solver, in one program."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.estimators.bandits import (
    GFUCBState,
    gfucb_init,
    gfucb_select,
    gfucb_update,
)
from logitlab.estimators.conformal import cqr_calibrate, cqr_scores
from logitlab.estimators.deep_kernels import (
    deep_nngp,
    deep_ntk,
    dual_activation,
    hilbert_estimate,
    kernel_classify,
    singularity_exponent,
)
from logitlab.estimators.density_ratio import fit_density_classifier
from logitlab.estimators.designs import (
    WeightedFit,
    gram_deviation,
    optimal_density,
    sample_projection_dpp,
    sample_volume,
    weighted_least_squares,
)
from logitlab.estimators.experts import estimate_label_prior, sade_weights
from logitlab.estimators.grouped_models import (
    GroupedModel,
    ValueIteration,
    estimate_grouped_model,
    group_mdp,
    grouping_objective,
    nested_groupings,
    value_iteration,
)
from logitlab.estimators.halfspaces import (
    CheckedHalfspace,
    HalfspaceFit,
    HalfspaceTest,
    learn_halfspace,
    test_halfspace,
    tester_learner,
)
from logitlab.estimators.hypotheses import (
    ScaledNcx2,
    fit_scaled_ncx2,
    gp_posterior_errors,
    neg_log_ncx2_cdf,
)
from logitlab.estimators.latent import (
    GMM,
    PPCA,
    gmm_fit,
    gmm_log_likelihood,
    gmm_logits,
    ppca_encode,
    ppca_fit,
    ppca_log_likelihood,
)
from logitlab.estimators.metropolis import MetropolisStep, score_mh_step
from logitlab.estimators.naive_bayes import (
    GaussianNBState,
    gaussian_nb_init,
    gaussian_nb_linear,
    gaussian_nb_logits,
    gaussian_nb_update,
)
from logitlab.estimators.ordinal_regression import (
    PrestoFit,
    fit_presto,
    presto_lambda_max,
    presto_logits,
)
from logitlab.estimators.probes import (
    LinearClassifier,
    fit_logistic,
    linear_logits,
    linear_probe,
    mean_pool,
)
from logitlab.estimators.quantile_combination import (
    monotone_average,
    monotone_cummax,
    monotone_isotonic,
    monotone_sort,
    monotone_sweep,
    quantile_aggregation,
)
from logitlab.estimators.ridge import aggregate_ridge
from logitlab.estimators.ridge_distillation import (
    krr_limit,
    krr_predict,
    krr_self_distill,
    optimal_alpha,
    shrinkage_factors,
)
from logitlab.estimators.smoothers import (
    effective_parameters,
    leaf_smoother,
    ridge_smoother,
)
from logitlab.estimators.stable_weights import (
    SampleWeights,
    cluster_by_correlation_stability,
    learn_sample_weights,
)
from logitlab.estimators.transfer import (
    TaskSelection,
    mbtl_acquisition,
    mbtl_select,
)
from logitlab.estimators.tweedie import (
    anneal_sigma,
    dae_score,
    score_from_x0,
    tweedie_gamma,
    tweedie_gaussian,
    tweedie_poisson,
    x0_from_score,
)
from logitlab.estimators.viable_ranges import (
    ViableRanges,
    viable_prediction_range,
)

__all__ = [
    "GMM",
    "PPCA",
    "CheckedHalfspace",
    "GFUCBState",
    "GaussianNBState",
    "GroupedModel",
    "HalfspaceFit",
    "HalfspaceTest",
    "LinearClassifier",
    "MetropolisStep",
    "PrestoFit",
    "SampleWeights",
    "ScaledNcx2",
    "TaskSelection",
    "ValueIteration",
    "ViableRanges",
    "WeightedFit",
    "aggregate_ridge",
    "anneal_sigma",
    "cluster_by_correlation_stability",
    "cqr_calibrate",
    "cqr_scores",
    "dae_score",
    "deep_nngp",
    "deep_ntk",
    "dual_activation",
    "effective_parameters",
    "estimate_grouped_model",
    "estimate_label_prior",
    "fit_density_classifier",
    "fit_logistic",
    "fit_presto",
    "fit_scaled_ncx2",
    "gaussian_nb_init",
    "gaussian_nb_linear",
    "gaussian_nb_logits",
    "gaussian_nb_update",
    "gfucb_init",
    "gfucb_select",
    "gfucb_update",
    "gmm_fit",
    "gmm_log_likelihood",
    "gmm_logits",
    "gp_posterior_errors",
    "gram_deviation",
    "group_mdp",
    "grouping_objective",
    "hilbert_estimate",
    "kernel_classify",
    "krr_limit",
    "krr_predict",
    "krr_self_distill",
    "leaf_smoother",
    "learn_halfspace",
    "learn_sample_weights",
    "linear_logits",
    "linear_probe",
    "mbtl_acquisition",
    "mbtl_select",
    "mean_pool",
    "monotone_average",
    "monotone_cummax",
    "monotone_isotonic",
    "monotone_sort",
    "monotone_sweep",
    "neg_log_ncx2_cdf",
    "nested_groupings",
    "optimal_alpha",
    "optimal_density",
    "ppca_encode",
    "ppca_fit",
    "ppca_log_likelihood",
    "presto_lambda_max",
    "presto_logits",
    "quantile_aggregation",
    "ridge_smoother",
    "sade_weights",
    "sample_projection_dpp",
    "sample_volume",
    "score_from_x0",
    "score_mh_step",
    "shrinkage_factors",
    "singularity_exponent",
    "test_halfspace",
    "tester_learner",
    "tweedie_gamma",
    "tweedie_gaussian",
    "tweedie_poisson",
    "value_iteration",
    "viable_prediction_range",
    "weighted_least_squares",
    "x0_from_score",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
