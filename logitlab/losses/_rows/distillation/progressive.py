"""Catalogue rows of ``logitlab.losses.distillation.progressive``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import teacher_pairs
from logitlab.losses.distillation.progressive import adaptive_alpha_divergence

ROWS = (
    Row(
        adaptive_alpha_divergence,
        "example",
        teacher_pairs,
        "AlphaNet, Wang et al. 2021, arXiv:2102.07954",
        definition="code",
        cost="both distributions, their ratio and two divergences",
    ),
)
