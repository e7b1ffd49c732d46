"""What papers prove about losses, computed: bounds, logic, gradients."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.theory.consistency import (
    comp_sum_bayes_risk,
    hconsistency_bound,
    hconsistency_transform,
    logistic_excess_bound,
    minimizability_gap,
)
from logitlab.theory.ensembles import ensloss_derivatives
from logitlab.theory.entanglement import (
    entanglement_diagnostics,
    margin_coefficients,
    pairwise_normalized_gradient,
)
from logitlab.theory.games import duality_gap
from logitlab.theory.in_context import (
    linear_attention_predict,
    one_step_risk,
    optimal_one_step_eta,
)
from logitlab.theory.linear_preferences import linear_margin_preference_grad
from logitlab.theory.optimal_transport import sorted_gw_bounds
from logitlab.theory.preference_logic import (
    DerivedLoss,
    PreferenceStructure,
    preference_structure_worlds,
    semantic_preference_ratio,
)
from logitlab.theory.updates import utility_update

__all__ = [
    "DerivedLoss",
    "PreferenceStructure",
    "comp_sum_bayes_risk",
    "duality_gap",
    "ensloss_derivatives",
    "entanglement_diagnostics",
    "hconsistency_bound",
    "hconsistency_transform",
    "linear_attention_predict",
    "linear_margin_preference_grad",
    "logistic_excess_bound",
    "margin_coefficients",
    "minimizability_gap",
    "one_step_risk",
    "optimal_one_step_eta",
    "pairwise_normalized_gradient",
    "preference_structure_worlds",
    "semantic_preference_ratio",
    "sorted_gw_bounds",
    "utility_update",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
