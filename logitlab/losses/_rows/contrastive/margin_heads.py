"""Catalogue rows of ``logitlab.losses.contrastive.margin_heads``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH, EXAMPLE, with_kernel
from logitlab.losses.contrastive.margin_heads import (
    arcface_loss,
    cosface_loss,
    magface_loss,
    unpg_loss,
)

ROWS = (
    Row(
        cosface_loss,
        source="Wang et al. 2018, arXiv:1801.09414",
        definition="code",
        golden="cosface",
        **EXAMPLE,
    ),
    Row(
        arcface_loss,
        source="Deng et al. 2019, arXiv:1801.07698",
        definition="code",
        golden="arcface",
        **EXAMPLE,
    ),
    Row(
        magface_loss,
        source="Meng et al. 2021, arXiv:2103.06627",
        definition="code",
        golden="magface",
        **EXAMPLE,
    ),
    Row(
        unpg_loss,
        make=with_kernel,
        source="Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593",
        definition="code",
        golden="unpg",
        **BATCH | dict(gathers="all pairs of examples are sorted", cost=BATCH["cost"]),
    ),
)
