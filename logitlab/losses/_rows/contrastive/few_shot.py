"""Catalogue rows of ``logitlab.losses.contrastive.few_shot``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH, EXAMPLE, labelled
from logitlab.losses.contrastive.few_shot import icnn_loss, proto_triplet_loss

_SOURCE = "SuSana Distancia, 2023, arXiv:2305.09062"

ROWS = (
    Row(
        proto_triplet_loss,
        source=_SOURCE,
        definition="code",
        golden="proto_triplet",
        smooth=False,
        **EXAMPLE,
    ),
    Row(
        icnn_loss,
        make=labelled,
        source=_SOURCE,
        definition="code",
        golden="icnn",
        **BATCH | dict(upper=28.0),
    ),
)
