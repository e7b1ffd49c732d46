"""Catalogue rows of ``logitlab.losses.distillation.rankings``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import labelled_pairs
from logitlab.losses.distillation.rankings import list_mle_distillation_loss, pld_loss


def _rankings(key, shape, dtype):
    z, order = jax.random.split(key)
    logits = 3 * jax.random.normal(z, shape, dtype)
    return logits, jnp.argsort(jax.random.uniform(order, shape), -1)


_SORTED = "each suffix of the ranking is a set of arbitrary classes"


ROWS = (
    Row(
        pld_loss,
        "example",
        labelled_pairs,
        "PLD, arXiv:2506.12542",
        definition="code",
        golden="pld",
        convex=True,
        gathers=_SORTED,
        cost="the classes are sorted and summed cumulatively from the end",
    ),
    Row(
        list_mle_distillation_loss,
        "example",
        _rankings,
        "Xia et al. 2008, Listwise Approach to Learning to Rank",
        definition="paper",
        convex=True,
        where=False,
        symmetric=False,
        gathers=_SORTED,
        cost="the classes are summed cumulatively from the end of the ranking",
        note="The labels are rankings: all classes, best first.",
    ),
)
