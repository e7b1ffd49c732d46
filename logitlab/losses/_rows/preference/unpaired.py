"""Catalogue rows of ``logitlab.losses.preference.unpaired``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.preference.unpaired import bco_loss, kto_loss


def _answers(key, shape, dtype):
    logps, ref = 3 * jax.random.normal(key, (2, *shape), dtype)
    return logps, ref, jax.random.bernoulli(jax.random.fold_in(key, 1), shape=shape)


def _weighted_answers(key, shape, dtype):
    weights = jax.random.uniform(jax.random.fold_in(key, 2), shape, dtype, 0.5, 10)
    return *_answers(key, shape, dtype), weights


_ROW = dict(
    kind="sequence",
    definition="code",
    golden="unpaired_binary",
    shift_invariant=False,
    where=False,
    symmetric=False,
    shape=(6,),
)


ROWS = (
    Row(
        kto_loss,
        make=_answers,
        source="Ethayarajh et al. 2024, arXiv:2402.01306",
        hyper={"kl": 0.3},
        upper=1.0,
        **_ROW,
    ),
    Row(
        bco_loss,
        make=_weighted_answers,
        source="Jung et al. 2024, arXiv:2404.04656",
        hyper={"shift": 0.2},
        convex=True,
        **_ROW,
    ),
)
