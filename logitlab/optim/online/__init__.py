"""Online learning: what to play next, and with which chances, given past losses."""

from logitlab.optim.online.exploration import (
    inverse_gap_weighting,
    log_barrier_policy,
    magnitude_reduced,
)
from logitlab.optim.online.mirror_descent import (
    OptimisticState,
    optimistic_hedge,
    optimistic_omd,
)
from logitlab.optim.online.sleeping_experts import (
    AdaNormalHedgeState,
    GroupwisePredictions,
    ada_normal_hedge_init,
    ada_normal_hedge_probs,
    ada_normal_hedge_update,
    groupwise_predictor,
)

__all__ = [
    "AdaNormalHedgeState",
    "GroupwisePredictions",
    "OptimisticState",
    "ada_normal_hedge_init",
    "ada_normal_hedge_probs",
    "ada_normal_hedge_update",
    "groupwise_predictor",
    "inverse_gap_weighting",
    "log_barrier_policy",
    "magnitude_reduced",
    "optimistic_hedge",
    "optimistic_omd",
]
