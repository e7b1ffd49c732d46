"""Distillation: a student's logits against a teacher's."""

from logitlab.losses.distillation import (
    alignment,
    correlations,
    decoupled,
    divergences,
    elastic,
    levels,
    matching,
    mixtures,
    rankings,
    relations,
    score_identity,
    self_knowledge,
    updates,
    vocabularies,
)
from logitlab.losses.distillation.alignment import *
from logitlab.losses.distillation.correlations import *
from logitlab.losses.distillation.decoupled import *
from logitlab.losses.distillation.divergences import *
from logitlab.losses.distillation.elastic import *
from logitlab.losses.distillation.levels import *
from logitlab.losses.distillation.matching import *
from logitlab.losses.distillation.mixtures import *
from logitlab.losses.distillation.rankings import *
from logitlab.losses.distillation.relations import *
from logitlab.losses.distillation.score_identity import *
from logitlab.losses.distillation.self_knowledge import *
from logitlab.losses.distillation.updates import *
from logitlab.losses.distillation.vocabularies import *

_MODULES = (
    alignment,
    correlations,
    decoupled,
    divergences,
    elastic,
    levels,
    matching,
    mixtures,
    rankings,
    relations,
    score_identity,
    self_knowledge,
    updates,
    vocabularies,
)
__all__ = [name for module in _MODULES for name in module.__all__]
ROWS = tuple(row for module in _MODULES for row in getattr(module, "ROWS", ()))
