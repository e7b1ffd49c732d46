"""Losses for noisy labels and heavy tails, and losses that are robust by design."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.robust import baselines, ensembles, temperatures, tempered
from logitlab.losses.robust.baselines import *
from logitlab.losses.robust.ensembles import *
from logitlab.losses.robust.temperatures import *
from logitlab.losses.robust.tempered import *

_MODULES = (
    baselines,
    ensembles,
    temperatures,
    tempered,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
