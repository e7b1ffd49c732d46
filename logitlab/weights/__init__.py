"""Class counts, likelihoods and losses to weights of classes and examples."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.weights.classes import (
    class_balanced_weights,
    inverse_frequency_weights,
    inverse_prior,
)
from logitlab.weights.density_ratio import DensityClassifier, density_ratio_weight
from logitlab.weights.kl_penalized import (
    CompositionalDRO,
    compositional_dro_state,
    compositional_dro_update,
    kl_dro_weights,
)
from logitlab.weights.likelihoods import (
    cluster_likelihood,
    dequity_weight,
    loss_scores,
    loss_weights,
)
from logitlab.weights.normalizers import meco_update
from logitlab.weights.pairs import gpw_weights
from logitlab.weights.personal import personal_loss_probs, personal_loss_resample

__all__ = [
    "CompositionalDRO",
    "DensityClassifier",
    "class_balanced_weights",
    "cluster_likelihood",
    "compositional_dro_state",
    "compositional_dro_update",
    "density_ratio_weight",
    "dequity_weight",
    "gpw_weights",
    "inverse_frequency_weights",
    "inverse_prior",
    "kl_dro_weights",
    "loss_scores",
    "loss_weights",
    "meco_update",
    "personal_loss_probs",
    "personal_loss_resample",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
