"""Catalogue rows of ``logitlab.losses.contrastive.views``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH, labelled, two_views
from logitlab.losses.contrastive.views import (
    infonce_loss,
    ntxent_loss,
    simclr_ntxent_loss,
    supcon_loss,
)

ROWS = (
    Row(
        supcon_loss,
        make=labelled,
        source="Khosla et al. 2020, arXiv:2004.11362",
        definition="code",
        golden="supcon",
        hyper=dict(temperature=0.1),
        **BATCH,
    ),
    Row(
        ntxent_loss,
        make=labelled,
        source="Sohn 2016; pytorch-metric-learning",
        definition="code",
        golden="ntxent",
        hyper=dict(temperature=0.1),
        **BATCH,
    ),
    Row(
        simclr_ntxent_loss,
        make=two_views,
        source="Chen et al. 2020, arXiv:2002.05709",
        definition="paper",
        hyper=dict(temperature=0.5),
        **BATCH,
    ),
    Row(
        infonce_loss,
        make=two_views,
        source="van den Oord et al. 2018, arXiv:1807.03748; CLIP, Radford et al. "
        "2021, arXiv:2103.00020",
        definition="paper",
        hyper=dict(temperature=0.1),
        **BATCH,
    ),
)
