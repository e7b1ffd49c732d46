"""Losses for noisy labels and heavy tails, and losses that are robust by design."""

from logitlab.losses.robust import baselines, ensembles, temperatures, tempered
from logitlab.losses.robust.baselines import (
    asymmetric_gce,
    asymmetric_unhinged,
    generalized_ce_loss,
    js_loss,
    normalized_ce_loss,
    symmetric_ce_loss,
)
from logitlab.losses.robust.ensembles import (
    ensloss,
    ensloss_derivatives,
    multiclass_ensloss,
)
from logitlab.losses.robust.temperatures import (
    aldr_kl_loss,
    ldr_kl_loss,
    optimal_temperature,
    tempnet_robust_loss,
)
from logitlab.losses.robust.tempered import bi_tempered_logistic_loss

__all__ = [
    "aldr_kl_loss",
    "asymmetric_gce",
    "asymmetric_unhinged",
    "bi_tempered_logistic_loss",
    "ensloss",
    "ensloss_derivatives",
    "generalized_ce_loss",
    "js_loss",
    "ldr_kl_loss",
    "multiclass_ensloss",
    "normalized_ce_loss",
    "optimal_temperature",
    "symmetric_ce_loss",
    "tempnet_robust_loss",
]

ROWS = baselines.ROWS + tempered.ROWS + temperatures.ROWS + ensembles.ROWS
