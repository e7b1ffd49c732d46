"""Catalogue rows of ``logitlab.losses.contrastive.two_towers``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH
from logitlab.losses.contrastive.two_towers import advflyp_loss


def _towers(key, shape, dtype):
    return (*jax.random.normal(key, (4, *shape), dtype),)


ROWS = (
    Row(
        advflyp_loss,
        make=_towers,
        source="AdvFLYP, 2026, arXiv:2604.11576",
        definition="code",
        golden="advflyp",
        hyper=dict(temperature=0.5),
        **BATCH,
    ),
)
