"""Catalogue rows of ``logitlab.losses.contrastive.sorting``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.contrastive import BATCH
from logitlab.losses.contrastive.sorting import groco_loss, group_order_bce_loss

_SOURCE = "Learning by Sorting, Shvetsova et al. 2023, arXiv:2301.02009"


def _views(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


def _permutation(key, shape, dtype):
    return (jax.nn.softmax(jax.random.normal(key, shape, dtype)),)


ROWS = (
    Row(
        groco_loss,
        make=_views,
        source=_SOURCE,
        definition="code",
        golden="groco",
        hyper=dict(negatives=3),
        surrogate="embeddings that are compared with are constants to the gradient",
        **BATCH | dict(shape=(7, 2, 4)),
    ),
    Row(
        group_order_bce_loss,
        kind="example",
        make=_permutation,
        source=_SOURCE,
        definition="code",
        golden="groco",
        hyper=dict(negatives=3),
        shift_invariant=False,
        lower=None,
        where=False,
        symmetric=False,
        shape=(2, 6, 6),
        note="The first argument is a soft permutation.",
    ),
)
