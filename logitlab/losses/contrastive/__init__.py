"""Losses of metric learning: embeddings against each other, or against proxies."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.contrastive import margin_heads, proxies, views
from logitlab.losses.contrastive.margin_heads import *
from logitlab.losses.contrastive.proxies import *
from logitlab.losses.contrastive.views import *

_MODULES = (margin_heads, proxies, views)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
