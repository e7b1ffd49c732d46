"""Losses that learn from preferences between answers, and from thumbs up or down."""

from logitlab.losses.preference import (
    absolute,
    divergences,
    entanglement,
    family,
    games,
    linear,
    logic,
    margins,
    reference_free,
    rewards,
    self_supervised,
    sequences,
    unpaired,
)
from logitlab.losses.preference.absolute import *
from logitlab.losses.preference.divergences import *
from logitlab.losses.preference.entanglement import *
from logitlab.losses.preference.family import *
from logitlab.losses.preference.games import *
from logitlab.losses.preference.linear import *
from logitlab.losses.preference.logic import *
from logitlab.losses.preference.logic import CATALOGUE
from logitlab.losses.preference.margins import *
from logitlab.losses.preference.reference_free import *
from logitlab.losses.preference.rewards import *
from logitlab.losses.preference.self_supervised import *
from logitlab.losses.preference.sequences import *
from logitlab.losses.preference.unpaired import *

_MODULES = (
    absolute,
    divergences,
    entanglement,
    family,
    games,
    linear,
    logic,
    margins,
    reference_free,
    rewards,
    self_supervised,
    sequences,
    unpaired,
)
__all__ = [name for module in _MODULES for name in module.__all__]

ROWS = tuple(row for module in _MODULES for row in getattr(module, "ROWS", ()))
