"""Losses of metric learning: embeddings against each other, or against proxies."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.contrastive import (
    adaptive,
    few_shot,
    margin_heads,
    pairs,
    proxies,
    sorting,
    two_towers,
    views,
)
from logitlab.losses.contrastive.adaptive import *
from logitlab.losses.contrastive.few_shot import *
from logitlab.losses.contrastive.margin_heads import *
from logitlab.losses.contrastive.pairs import *
from logitlab.losses.contrastive.proxies import *
from logitlab.losses.contrastive.sorting import *
from logitlab.losses.contrastive.two_towers import *
from logitlab.losses.contrastive.views import *

_MODULES = (
    adaptive,
    few_shot,
    margin_heads,
    pairs,
    proxies,
    sorting,
    two_towers,
    views,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
