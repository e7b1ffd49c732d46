"""Catalogue rows of ``logitlab.losses.listwise``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.listwise import (
    approx_ndcg_loss,
    listwise_mle_loss,
    listwise_softmax_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
)


def _lists(key, shape, dtype):
    """Lists of items: scores, relevances, weights and segments."""
    keys = jax.random.split(key, 4)
    logits = 3 * jax.random.normal(keys[0], shape, dtype)
    labels, weights = (jax.random.uniform(k, shape, dtype, 0.5, 2) for k in keys[1:3])
    return logits, labels, weights, jax.random.randint(keys[3], shape, 0, 2)


_LIST = dict(
    kind="example",
    make=_lists,
    gathers="every item is compared with every other one",
    cost="it holds an array of all pairs of items",
)

ROWS = (
    Row(
        listwise_softmax_loss,
        source="ListNet, Cao et al. 2007",
        definition="paper",
        convex=True,
        **_LIST,
    ),
    Row(
        listwise_mle_loss,
        source="Xia et al. 2008, Listwise Approach to Learning to Rank",
        definition="paper",
        convex=True,
        **_LIST,
    ),
    Row(
        pairwise_logistic_loss,
        source="RankNet, Burges et al. 2005",
        definition="paper",
        convex=True,
        **_LIST,
    ),
    Row(
        pairwise_hinge_loss,
        source="RankSVM, Joachims 2002",
        definition="paper",
        convex=True,
        smooth=False,
        **_LIST,
    ),
    Row(
        approx_ndcg_loss,
        source="Qin, Liu and Li 2010",
        definition="paper",
        note="The gradient vanishes where items are far out of order.",
        **_LIST,
    ),
)
