"""Catalogue rows of ``logitlab.losses.clustering``."""

from logitlab.losses._rows import Row, distributions
from logitlab.losses.clustering import depict_loss

_SOURCE = "DEPICT, Ghasedi Dizaji et al. 2017, arXiv:1704.06327"


ROWS = (
    Row(
        depict_loss,
        "example",
        distributions,
        _SOURCE,
        definition="code",
        convex=True,
        calibrated=True,
        proper=True,
    ),
)
