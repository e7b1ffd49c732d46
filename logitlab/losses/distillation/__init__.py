"""Distillation: a student's logits against a teacher's."""

from logitlab.losses.distillation import divergences
from logitlab.losses.distillation.divergences import (
    generalized_jsd,
    js_divergence,
    kd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    symmetric_kl,
    total_variation,
)

__all__ = [
    "generalized_jsd",
    "js_divergence",
    "kd",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "symmetric_kl",
    "total_variation",
]

ROWS = divergences.ROWS
