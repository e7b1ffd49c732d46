"""Linear heads that are trained without an array of all their logits."""

from logitlab.heads.linear import Linear, linear_loss
from logitlab.heads.spherical import (
    SphericalOutputState,
    spherical_output_dense,
    spherical_output_init,
    spherical_output_refresh,
    spherical_output_stats,
    spherical_output_update,
    spherical_stats_loss,
    stabilize,
)

__all__ = [
    "Linear",
    "SphericalOutputState",
    "linear_loss",
    "spherical_output_dense",
    "spherical_output_init",
    "spherical_output_refresh",
    "spherical_output_stats",
    "spherical_output_update",
    "spherical_stats_loss",
    "stabilize",
]
