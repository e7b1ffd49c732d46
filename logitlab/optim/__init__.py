"""Optax gradient transformations, gradients of other kinds, and schedules."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.optim.aligned_gradients import align_gradients, gradient_alignment
from logitlab.optim.client_updates import (
    PrincipalState,
    average_clients,
    client_average,
    guidance_matrix,
    principal_gradient_aggregate,
    principal_gradients,
    principal_updates,
    scale_by_guidance,
)
from logitlab.optim.cross_gradients import (
    XGDState,
    cross_convex_lower_bound,
    cross_gradient,
    random_point,
    subgradient_schedule,
    value_and_cross_grad,
    xgd,
)
from logitlab.optim.federated import FederatedState, fedadam, fedavg, federated_rounds
from logitlab.optim.meta_weights import meta_reweight
from logitlab.optim.projections import gradient_projection_merge, ortho_grad
from logitlab.optim.prox import (
    ProxState,
    fused_soft_threshold,
    soft_threshold,
    tv_prox,
)
from logitlab.optim.weight_penalties import weight_distribution_penalty

__all__ = [
    "FederatedState",
    "PrincipalState",
    "ProxState",
    "XGDState",
    "align_gradients",
    "average_clients",
    "client_average",
    "cross_convex_lower_bound",
    "cross_gradient",
    "fedadam",
    "fedavg",
    "federated_rounds",
    "fused_soft_threshold",
    "gradient_alignment",
    "gradient_projection_merge",
    "guidance_matrix",
    "meta_reweight",
    "ortho_grad",
    "principal_gradient_aggregate",
    "principal_gradients",
    "principal_updates",
    "random_point",
    "scale_by_guidance",
    "soft_threshold",
    "subgradient_schedule",
    "tv_prox",
    "value_and_cross_grad",
    "weight_distribution_penalty",
    "xgd",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
