"""Catalogue rows of ``logitlab.losses.distillation.divergences``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import teacher_pairs
from logitlab.losses.distillation.divergences import (
    kd_loss,
    reverse_kl,
    symmetric_kl,
    total_variation_divergence,
)

_COST = "both distributions and their ratio are arrays of the logits' size"


_DISTILLM = "DistiLLM, Ko et al. 2024, arXiv:2402.03898"


ROWS = (
    Row(
        kd_loss,
        "example",
        teacher_pairs,
        "Hinton et al. 2015, arXiv:1503.02531",
        definition="code",
        golden="kd",
        convex=True,
        cost=_COST,
    ),
    Row(
        reverse_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        definition="code",
        golden="distillm_divergences",
        cost=_COST,
    ),
    Row(
        symmetric_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        definition="code",
        golden="distillm_divergences",
        cost=_COST,
    ),
    Row(
        total_variation_divergence,
        "example",
        teacher_pairs,
        _DISTILLM,
        definition="code",
        golden="distillm_divergences",
        upper=1.0,
        cost=_COST,
    ),
)
