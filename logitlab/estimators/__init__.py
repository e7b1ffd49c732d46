"""Estimators: fitted in closed form or by a convex solver, not trained."""

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

__all__ = [
    "GaussianNBState",
    "PrestoFit",
    "fit_presto",
    "gaussian_nb_init",
    "gaussian_nb_linear",
    "gaussian_nb_logits",
    "gaussian_nb_update",
    "logistic_excess_bound",
    "presto_lambda_max",
    "presto_logits",
]
