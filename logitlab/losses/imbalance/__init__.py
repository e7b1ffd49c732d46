"""Losses and weights for rare classes, labels and samples, and for replay."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.imbalance import (
    class_counts,
    experts,
    hybrids,
    label_skew,
    multilabel,
    replay,
    sample_weights,
)
from logitlab.losses.imbalance.class_counts import *
from logitlab.losses.imbalance.experts import *
from logitlab.losses.imbalance.hybrids import *
from logitlab.losses.imbalance.label_skew import *
from logitlab.losses.imbalance.multilabel import *
from logitlab.losses.imbalance.replay import *
from logitlab.losses.imbalance.sample_weights import *

_MODULES = (
    class_counts,
    experts,
    hybrids,
    label_skew,
    multilabel,
    replay,
    sample_weights,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
