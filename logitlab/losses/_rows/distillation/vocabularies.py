"""Catalogue rows of ``logitlab.losses.distillation.vocabularies``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.distillation.vocabularies import gld_loss, uld_loss


def _two_vocabularies(key, shape, dtype):
    s, t = jax.random.split(key)
    larger = (*shape[:-1], shape[-1] + 3)
    return 3 * jax.random.normal(s, shape, dtype), 3 * jax.random.normal(
        t, larger, dtype
    )


ROWS = (
    Row(
        uld_loss,
        "example",
        _two_vocabularies,
        "Boizard et al. 2024, arXiv:2402.12030",
        definition="code",
        golden="uld",
        upper=2.0,
        gathers="probabilities are sorted",
        cost="probabilities of both models are sorted",
    ),
    Row(
        gld_loss,
        "sequence",
        _two_vocabularies,
        "InfiGFusion, Wang et al. 2025, arXiv:2505.13893",
        definition="inferred",
        shift_invariant=False,
        where=False,
        gathers="degrees are sorted",
        cost="the largest logits of every position, and sorted degrees",
        shape=(3, 4, 5),
    ),
)
