"""Losses: (logits, labels) to one number per example, one module for each family.

Every public name of a family is re-exported here: ``losses.cross_entropy``. What is
true of each loss stands in ``logitlab.losses.catalogue``.
"""

from logitlab.losses import (
    aggregate,
    clustering,
    comp_sums,
    confusion,
    consistency,
    density,
    distillation,
    fenchel,
    imbalance,
    margin,
    ordinal,
    policy_gradient,
    preference,
    quantile,
    ranking,
    regression_as_classification,
    regularized,
    robust,
    segmentation,
    smooth_adversarial,
    spherical,
    utility,
)
from logitlab.losses.aggregate import *
from logitlab.losses.clustering import *
from logitlab.losses.comp_sums import *
from logitlab.losses.confusion import *
from logitlab.losses.consistency import *
from logitlab.losses.density import *
from logitlab.losses.distillation import *
from logitlab.losses.fenchel import *
from logitlab.losses.imbalance import *
from logitlab.losses.margin import *
from logitlab.losses.ordinal import *
from logitlab.losses.policy_gradient import *
from logitlab.losses.preference import *
from logitlab.losses.quantile import *
from logitlab.losses.ranking import *
from logitlab.losses.regression_as_classification import *
from logitlab.losses.regularized import *
from logitlab.losses.robust import *
from logitlab.losses.segmentation import *
from logitlab.losses.smooth_adversarial import *
from logitlab.losses.spherical import *
from logitlab.losses.utility import *

_FAMILIES = (
    aggregate,
    clustering,
    comp_sums,
    confusion,
    consistency,
    density,
    distillation,
    fenchel,
    imbalance,
    margin,
    ordinal,
    policy_gradient,
    preference,
    quantile,
    ranking,
    regression_as_classification,
    regularized,
    robust,
    segmentation,
    smooth_adversarial,
    spherical,
    utility,
)
__all__ = [name for family in _FAMILIES for name in family.__all__]
