"""Catalogue rows of ``logitlab.losses.distillation.mixtures``."""

import numpy as np

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import teacher_pairs
from logitlab.losses.distillation.mixtures import (
    js_divergence,
    skew_kl,
    skew_reverse_kl,
)

_COST = "both distributions and their ratio are arrays of the logits' size"


_DISTILLM = "DistiLLM, Ko et al. 2024, arXiv:2402.03898"


ROWS = (
    Row(
        js_divergence,
        "example",
        teacher_pairs,
        "GKD, Agarwal et al. 2024, arXiv:2306.13649",
        definition="code",
        golden="generalized_jsd",
        upper=float(np.log(2)),
        cost=_COST,
    ),
    Row(
        skew_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        definition="code",
        golden="distillm_divergences",
        upper=float(np.log(10)),
        cost=_COST,
    ),
    Row(
        skew_reverse_kl,
        "example",
        teacher_pairs,
        _DISTILLM,
        definition="code",
        golden="distillm_divergences",
        upper=float(np.log(10)),
        cost=_COST,
    ),
)
