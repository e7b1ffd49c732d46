"""Attacks: a function of inputs and its inputs to inputs that break it."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.attacks._problem import Attack
from logitlab.attacks.auto_pgd import apgd, apgd_targeted
from logitlab.attacks.balls import project_l1_box, project_to_ball
from logitlab.attacks.fixed_steps import pgd, pma_attack
from logitlab.attacks.objectives import (
    cw_margin,
    dlr_loss,
    dlr_targeted_loss,
    label_odds,
    log_probability_margin,
    probability_margin,
)
from logitlab.attacks.policies import bifurcate, group_difference_logits
from logitlab.attacks.random_search import square_attack
from logitlab.attacks.unions import max_of_attacks, strongest
from logitlab.attacks.worst_case import RobustAccuracy, robust_accuracy

__all__ = [
    "Attack",
    "RobustAccuracy",
    "apgd",
    "apgd_targeted",
    "bifurcate",
    "cw_margin",
    "dlr_loss",
    "dlr_targeted_loss",
    "group_difference_logits",
    "label_odds",
    "log_probability_margin",
    "max_of_attacks",
    "pgd",
    "pma_attack",
    "probability_margin",
    "project_l1_box",
    "project_to_ball",
    "robust_accuracy",
    "square_attack",
    "strongest",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
