"""Optax gradient transformations, gradients of other kinds, and online learning."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.optim.aligned_gradients import align_gradients, gradient_alignment
from logitlab.optim.bilevel import BilevelProblem, LVHBAState, lv_hba_init, lv_hba_step
from logitlab.optim.blocks import BlockDescent, bcd_minimize, tree_solve
from logitlab.optim.client_updates import (
    PrincipalState,
    average_clients,
    client_average,
    guidance_matrix,
    principal_gradient_aggregate,
    principal_gradients,
    principal_updates,
    scale_by_guidance,
)
from logitlab.optim.cross_gradients import (
    XGDState,
    cross_convex_lower_bound,
    cross_gradient,
    random_point,
    subgradient_schedule,
    value_and_cross_grad,
    xgd,
)
from logitlab.optim.federated import FederatedState, fedadam, fedavg, federated_rounds
from logitlab.optim.ghosts import (
    GhostState,
    cap_by_ghost_radius,
    exact_binary_radius,
    ghost_radius,
    hold_masked,
    logit_slopes,
    normalized_step,
)
from logitlab.optim.meta_weights import meta_reweight
from logitlab.optim.moments import (
    CompositionalMomentumState,
    scale_by_compositional_momentum,
)
from logitlab.optim.online import (
    AdaNormalHedgeState,
    GroupwisePredictions,
    OptimisticState,
    ada_normal_hedge_init,
    ada_normal_hedge_probs,
    ada_normal_hedge_update,
    groupwise_predictor,
    inverse_gap_weighting,
    log_barrier_policy,
    magnitude_reduced,
    optimistic_hedge,
    optimistic_omd,
)
from logitlab.optim.perceptrons import (
    ErrorMassState,
    Perceptron,
    batch_perceptron,
    error_mass,
    scale_by_inverse_error_mass,
)
from logitlab.optim.projections import gradient_projection_merge, ortho_grad
from logitlab.optim.prox import (
    ProxState,
    fused_soft_threshold,
    soft_threshold,
    tv_prox,
)
from logitlab.optim.schedules import (
    GradNormState,
    adapt_regime,
    distance_from_init,
    linear_decay,
    record_grad_norm,
    refine_schedule,
    schedule_from_array,
    sqrt_batch_scale,
)
from logitlab.optim.searches import (
    AutoLRSState,
    Exponential,
    Stage,
    autolrs,
    autolrs_stage,
    fit_exponential,
)
from logitlab.optim.soups import (
    LearnedSoup,
    greedy_soup,
    interpolate,
    learned_soup,
    soup_vs_ensemble_gap,
    uniform_soup,
)
from logitlab.optim.surrogates import (
    SurrogateInfo,
    SurrogateState,
    sso_step,
    surrogate_descent,
    target_surrogate,
)
from logitlab.optim.weight_penalties import weight_distribution_penalty

__all__ = [
    "AdaNormalHedgeState",
    "AutoLRSState",
    "BilevelProblem",
    "BlockDescent",
    "CompositionalMomentumState",
    "ErrorMassState",
    "Exponential",
    "FederatedState",
    "GhostState",
    "GradNormState",
    "GroupwisePredictions",
    "LVHBAState",
    "LearnedSoup",
    "OptimisticState",
    "Perceptron",
    "PrincipalState",
    "ProxState",
    "Stage",
    "SurrogateInfo",
    "SurrogateState",
    "XGDState",
    "ada_normal_hedge_init",
    "ada_normal_hedge_probs",
    "ada_normal_hedge_update",
    "adapt_regime",
    "align_gradients",
    "autolrs",
    "autolrs_stage",
    "average_clients",
    "batch_perceptron",
    "bcd_minimize",
    "cap_by_ghost_radius",
    "client_average",
    "cross_convex_lower_bound",
    "cross_gradient",
    "distance_from_init",
    "error_mass",
    "exact_binary_radius",
    "fedadam",
    "fedavg",
    "federated_rounds",
    "fit_exponential",
    "fused_soft_threshold",
    "ghost_radius",
    "gradient_alignment",
    "gradient_projection_merge",
    "greedy_soup",
    "groupwise_predictor",
    "guidance_matrix",
    "hold_masked",
    "interpolate",
    "inverse_gap_weighting",
    "learned_soup",
    "linear_decay",
    "log_barrier_policy",
    "logit_slopes",
    "lv_hba_init",
    "lv_hba_step",
    "magnitude_reduced",
    "meta_reweight",
    "normalized_step",
    "optimistic_hedge",
    "optimistic_omd",
    "ortho_grad",
    "principal_gradient_aggregate",
    "principal_gradients",
    "principal_updates",
    "random_point",
    "record_grad_norm",
    "refine_schedule",
    "scale_by_compositional_momentum",
    "scale_by_guidance",
    "scale_by_inverse_error_mass",
    "schedule_from_array",
    "soft_threshold",
    "soup_vs_ensemble_gap",
    "sqrt_batch_scale",
    "sso_step",
    "subgradient_schedule",
    "surrogate_descent",
    "target_surrogate",
    "tree_solve",
    "tv_prox",
    "uniform_soup",
    "value_and_cross_grad",
    "weight_distribution_penalty",
    "xgd",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
