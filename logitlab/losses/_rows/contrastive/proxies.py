"""Catalogue rows of ``logitlab.losses.contrastive.proxies``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH, EXAMPLE, with_kernel
from logitlab.losses.contrastive.proxies import (
    normalized_softmax_loss,
    proxy_anchor_loss,
    proxy_nca_loss,
)

ROWS = (
    Row(
        normalized_softmax_loss,
        source="Zhai and Wu 2018, arXiv:1811.12649",
        definition="code",
        golden="normalized_softmax",
        hyper=dict(temperature=0.05),
        **EXAMPLE,
    ),
    Row(
        proxy_nca_loss,
        source="Movshovitz-Attias et al. 2017, arXiv:1703.07464; ProxyNCA++, Teh et "
        "al. 2020, arXiv:2004.01113",
        definition="code",
        golden="proxy_nca",
        **EXAMPLE,
    ),
    Row(
        proxy_anchor_loss,
        make=with_kernel,
        source="Kim et al. 2020, arXiv:2003.13911",
        definition="code",
        golden="proxy_anchor",
        **BATCH
        | dict(
            gathers="a proxy is compared with all examples",
            cost="",
            shape=(4, 5),
            note="The first argument is embeddings; one value per proxy.",
        ),
    ),
)
