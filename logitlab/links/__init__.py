"""Links: new logits whose softmax is another way to make probabilities of scores.

Every loss works with every link by composition:
``losses.cross_entropy(links.stablemax(logits), labels)``.
"""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.links.elementwise import spherical_softmax, stablemax, taylor_softmax
from logitlab.links.factored import (
    checkered,
    checkered_responsibilities,
    checkoid,
    checkoid_log,
)
from logitlab.links.sparse import entmax, sparsemax

__all__ = [
    "checkered",
    "checkered_responsibilities",
    "checkoid",
    "checkoid_log",
    "entmax",
    "sparsemax",
    "spherical_softmax",
    "stablemax",
    "taylor_softmax",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
