"""Catalogue rows of ``logitlab.losses.contrastive.pairs``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH, labelled
from logitlab.losses.contrastive.pairs import (
    circle_loss,
    contrastive_pair_loss,
    multi_similarity_loss,
    triplet_margin_loss,
)

ROWS = (
    Row(
        contrastive_pair_loss,
        make=labelled,
        source="Hadsell et al. 2006; pytorch-metric-learning",
        definition="code",
        golden="contrastive",
        smooth=False,
        **BATCH,
    ),
    Row(
        triplet_margin_loss,
        make=labelled,
        source="Schroff et al. 2015, arXiv:1503.03832; pytorch-metric-learning",
        definition="code",
        golden="triplet_margin",
        smooth=False,
        **BATCH,
    ),
    Row(
        circle_loss,
        make=labelled,
        source="Sun et al. 2020, arXiv:2002.10857",
        definition="code",
        golden="circle",
        surrogate="its weights of pairs are constants to the gradient",
        **BATCH,
    ),
    Row(
        multi_similarity_loss,
        make=labelled,
        source="Wang et al. 2019, arXiv:1904.06627",
        definition="code",
        golden="multi_similarity",
        **BATCH,
    ),
)
