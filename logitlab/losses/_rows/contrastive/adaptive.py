"""Catalogue rows of ``logitlab.losses.contrastive.adaptive``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH
from logitlab.losses.contrastive.adaptive import amcl_simclr_loss


def _heads(key, shape, dtype):
    first, second = jax.random.normal(key, (2, *shape), dtype)
    keys = jax.random.normal(jax.random.fold_in(key, 1), (2, *shape[:2], 6), dtype)
    return 3 * first, 3 * second, *keys


ROWS = (
    Row(
        amcl_simclr_loss,
        make=_heads,
        source="AMCL, 2023, arXiv:2310.05615",
        definition="code",
        golden="amcl_simclr",
        hyper=dict(min_temperature=0.05),
        **BATCH | dict(shape=(7, 2, 4), lower=None),
    ),
)
