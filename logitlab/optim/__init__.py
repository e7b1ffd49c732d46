"""Optax gradient transformations, gradients of other kinds, and schedules."""

from logitlab.optim.alignment import align_gradients, gradient_alignment
from logitlab.optim.cross_gradients import (
    XGDState,
    cross_convex_lower_bound,
    cross_gradient,
    cross_loss,
    random_point,
    subgradient_schedule,
    sum_log_concave_loss,
    value_and_cross_grad,
    xgd,
)
from logitlab.optim.projections import ortho_grad
from logitlab.optim.prox import (
    ProxState,
    fused_soft_threshold,
    soft_threshold,
    tv_prox,
)
from logitlab.optim.soft_targets import (
    checkered_cross_loss,
    dirichlet_responsibilities,
)

__all__ = [
    "ProxState",
    "XGDState",
    "align_gradients",
    "checkered_cross_loss",
    "cross_convex_lower_bound",
    "cross_gradient",
    "cross_loss",
    "dirichlet_responsibilities",
    "fused_soft_threshold",
    "gradient_alignment",
    "ortho_grad",
    "random_point",
    "soft_threshold",
    "subgradient_schedule",
    "sum_log_concave_loss",
    "tv_prox",
    "value_and_cross_grad",
    "xgd",
]
