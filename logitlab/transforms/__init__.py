"""Transforms: logits to logits."""

from logitlab.transforms.ensembles import ensemble_logits
from logitlab.transforms.standardization import standardize_logits

__all__ = ["ensemble_logits", "standardize_logits"]
