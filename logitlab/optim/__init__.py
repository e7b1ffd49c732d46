"""Optax gradient transformations, gradients of other kinds, and online learning."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.optim.aligned_gradients import align_gradients, gradient_alignment
from logitlab.optim.cross_gradients import (
    XGDState,
    cross_convex_lower_bound,
    cross_gradient,
    random_point,
    subgradient_schedule,
    value_and_cross_grad,
    xgd,
)
from logitlab.optim.online import (
    AdaNormalHedgeState,
    GroupwisePredictions,
    OptimisticState,
    ada_normal_hedge_init,
    ada_normal_hedge_probs,
    ada_normal_hedge_update,
    groupwise_predictor,
    inverse_gap_weighting,
    log_barrier_policy,
    magnitude_reduced,
    optimistic_hedge,
    optimistic_omd,
)
from logitlab.optim.projections import gradient_projection_merge, ortho_grad
from logitlab.optim.prox import (
    ProxState,
    fused_soft_threshold,
    soft_threshold,
    tv_prox,
)
from logitlab.optim.weight_penalties import weight_distribution_penalty

__all__ = [
    "AdaNormalHedgeState",
    "GroupwisePredictions",
    "OptimisticState",
    "ProxState",
    "XGDState",
    "ada_normal_hedge_init",
    "ada_normal_hedge_probs",
    "ada_normal_hedge_update",
    "align_gradients",
    "cross_convex_lower_bound",
    "cross_gradient",
    "fused_soft_threshold",
    "gradient_alignment",
    "gradient_projection_merge",
    "groupwise_predictor",
    "inverse_gap_weighting",
    "log_barrier_policy",
    "magnitude_reduced",
    "optimistic_hedge",
    "optimistic_omd",
    "ortho_grad",
    "random_point",
    "soft_threshold",
    "subgradient_schedule",
    "tv_prox",
    "value_and_cross_grad",
    "weight_distribution_penalty",
    "xgd",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
