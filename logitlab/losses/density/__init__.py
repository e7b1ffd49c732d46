"""Unnormalized densities, their scores, and denoisers, all learned from samples."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.density import denoisers, noise_contrast, scores
from logitlab.losses.density.denoisers import *
from logitlab.losses.density.noise_contrast import *
from logitlab.losses.density.scores import *

_MODULES = (noise_contrast, scores, denoisers)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
