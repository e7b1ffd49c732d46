"""Catalogue rows of ``logitlab.losses.distillation.relations``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.distillation.relations import (
    pkt_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)


def _two_embeddings(key, shape, dtype):
    s, t = jax.random.split(key)
    wider = (*shape[:-1], shape[-1] + 2)
    return 3 * jax.random.normal(s, shape, dtype), jax.random.normal(t, wider, dtype)


_ROW = dict(
    make=_two_embeddings,
    definition="code",
    shift_invariant=False,
    where=False,
    gathers="all pairs of examples are compared",
    cost="it holds arrays of all pairs of examples",
    rtol=1e-4,
)


_RKD = "RKD, Park et al. 2019, arXiv:1904.05068"


ROWS = (
    Row(rkd_distance_loss, "pair", source=_RKD, golden="rkd", **_ROW),
    Row(rkd_angle_loss, "pair", source=_RKD, golden="rkd", upper=1.5, **_ROW),
    Row(
        similarity_preserving_loss,
        "batch",
        source="Tung and Mori 2019, arXiv:1907.09682",
        **_ROW,
    ),
    Row(pkt_loss, "batch", source="Passalis and Tefas 2018, arXiv:1803.10837", **_ROW),
)
