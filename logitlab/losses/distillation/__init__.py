"""Distillation: a student's logits against a teacher's."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.distillation import (
    correlations,
    decoupled,
    divergences,
    language_models,
    matching,
    mixtures,
    model_updates,
    multi_level,
    progressive,
    rankings,
    relations,
    score_identity,
    self_knowledge,
    vocabularies,
)
from logitlab.losses.distillation.correlations import *
from logitlab.losses.distillation.decoupled import *
from logitlab.losses.distillation.divergences import *
from logitlab.losses.distillation.language_models import *
from logitlab.losses.distillation.matching import *
from logitlab.losses.distillation.mixtures import *
from logitlab.losses.distillation.model_updates import *
from logitlab.losses.distillation.multi_level import *
from logitlab.losses.distillation.progressive import *
from logitlab.losses.distillation.rankings import *
from logitlab.losses.distillation.relations import *
from logitlab.losses.distillation.score_identity import *
from logitlab.losses.distillation.self_knowledge import *
from logitlab.losses.distillation.vocabularies import *

_MODULES = (
    correlations,
    decoupled,
    divergences,
    language_models,
    matching,
    mixtures,
    model_updates,
    multi_level,
    progressive,
    rankings,
    relations,
    score_identity,
    self_knowledge,
    vocabularies,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
