"""Catalogue rows of ``logitlab.losses.value_models``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.value_models import taylor_vaml_loss, vagram_loss


def _transitions(key, shape, dtype):
    pred, target, slopes, *rewards = jax.random.split(key, 5)
    states = (3 * jax.random.normal(k, shape, dtype) for k in (pred, target))
    return (
        *states,
        jax.random.normal(slopes, shape, dtype),
        *(jax.random.normal(k, shape[:-1], dtype) for k in rewards),
    )


_ROW = dict(
    kind="batch",
    make=_transitions,
    source="Voelcker et al. 2022, arXiv:2204.01464",
    definition="code",
    golden="vagram",
    shift_invariant=False,
    convex=True,
    where=False,
    shape=(7, 5),
    note="One value per example; the arrays hold states in place of logits.",
)

ROWS = (Row(vagram_loss, **_ROW), Row(taylor_vaml_loss, **_ROW))
