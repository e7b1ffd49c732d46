"""Links: new logits whose softmax is another way to make probabilities of scores.

Every loss works with every link by composition:
``losses.cross_entropy(links.stablemax(logits), labels)``.
"""

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
