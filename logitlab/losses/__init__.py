"""Losses: (logits, labels) to one number per example."""

from logitlab.losses.comp_sums import cross_entropy

__all__ = ["cross_entropy"]
