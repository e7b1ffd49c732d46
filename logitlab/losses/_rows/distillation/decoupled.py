"""Catalogue rows of ``logitlab.losses.distillation.decoupled``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import labelled_pairs
from logitlab.losses.distillation.decoupled import dkd_loss, nkd_loss, wsld_loss

_COST = "distributions of both models, with and without the label"


ROWS = (
    Row(
        dkd_loss,
        "example",
        labelled_pairs,
        "Zhao et al. 2022, arXiv:2203.08679",
        definition="code",
        golden="dkd",
        convex=True,
        cost=_COST,
    ),
    Row(
        nkd_loss,
        "example",
        labelled_pairs,
        "Yang et al. 2023, arXiv:2303.13005",
        definition="code",
        golden="nkd",
        convex=True,
        cost=_COST,
    ),
    Row(
        wsld_loss,
        "example",
        labelled_pairs,
        "Zhou et al. 2021, arXiv:2102.00650",
        definition="code",
        golden="wsld",
        cost="distributions of both models",
        surrogate="the weight carries no gradient",
    ),
)
