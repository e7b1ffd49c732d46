"""Optax gradient transformations and schedules."""

from logitlab.optim.projections import ortho_grad
from logitlab.optim.prox import (
    ProxState,
    fused_soft_threshold,
    soft_threshold,
    tv_prox,
)

__all__ = [
    "ProxState",
    "fused_soft_threshold",
    "ortho_grad",
    "soft_threshold",
    "tv_prox",
]
