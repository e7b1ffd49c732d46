"""Losses that learn from preferences between answers, and from thumbs up or down."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.preference import (
    absolute,
    derived,
    f_divergences,
    family,
    games,
    margins,
    reference_free,
    rewards,
    self_supervised,
    supervised,
    unpaired,
)
from logitlab.losses.preference.absolute import *
from logitlab.losses.preference.derived import *
from logitlab.losses.preference.derived import CATALOGUE
from logitlab.losses.preference.f_divergences import *
from logitlab.losses.preference.family import *
from logitlab.losses.preference.games import *
from logitlab.losses.preference.margins import *
from logitlab.losses.preference.reference_free import *
from logitlab.losses.preference.rewards import *
from logitlab.losses.preference.self_supervised import *
from logitlab.losses.preference.supervised import *
from logitlab.losses.preference.unpaired import *

_MODULES = (
    absolute,
    derived,
    f_divergences,
    family,
    games,
    margins,
    reference_free,
    rewards,
    self_supervised,
    supervised,
    unpaired,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
