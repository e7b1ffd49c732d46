"""Estimators: fitted in closed form or by a convex solver; how much they smooth."""

from logitlab.estimators.deep_kernels import (
    deep_nngp,
    deep_ntk,
    dual_activation,
    hilbert_estimate,
    kernel_classify,
    singularity_exponent,
)
from logitlab.estimators.naive_bayes import (
    GaussianNBState,
    gaussian_nb_init,
    gaussian_nb_linear,
    gaussian_nb_logits,
    gaussian_nb_update,
    logistic_excess_bound,
)
from logitlab.estimators.ordinal_regression import (
    PrestoFit,
    fit_presto,
    presto_lambda_max,
    presto_logits,
)
from logitlab.estimators.self_distillation import (
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

__all__ = [
    "GaussianNBState",
    "PrestoFit",
    "fit_presto",
    "deep_nngp",
    "deep_ntk",
    "dual_activation",
    "effective_parameters",
    "gaussian_nb_init",
    "gaussian_nb_linear",
    "gaussian_nb_logits",
    "gaussian_nb_update",
    "hilbert_estimate",
    "kernel_classify",
    "krr_limit",
    "krr_predict",
    "krr_self_distill",
    "leaf_smoother",
    "logistic_excess_bound",
    "optimal_alpha",
    "presto_lambda_max",
    "presto_logits",
    "ridge_smoother",
    "shrinkage_factors",
    "singularity_exponent",
]
