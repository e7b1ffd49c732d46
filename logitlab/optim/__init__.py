"""Optax gradient transformations and schedules."""

from logitlab.optim.projections import ortho_grad

__all__ = ["ortho_grad"]
