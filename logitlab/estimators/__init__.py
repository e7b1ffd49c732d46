"""Estimators: fitted in closed form, not trained."""

from logitlab.estimators.naive_bayes import (
    GaussianNBState,
    gaussian_nb_init,
    gaussian_nb_linear,
    gaussian_nb_logits,
    gaussian_nb_update,
    logistic_excess_bound,
)

__all__ = [
    "GaussianNBState",
    "gaussian_nb_init",
    "gaussian_nb_linear",
    "gaussian_nb_logits",
    "gaussian_nb_update",
    "logistic_excess_bound",
]
