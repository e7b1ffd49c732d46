"""Catalogue rows of ``logitlab.losses.confusion``."""

import jax

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses.confusion import anyloss, anyloss_hybrid, splitter_penalty


def _only_logits(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    Row(
        anyloss_hybrid,
        "batch",
        binary_labels,
        "doheonhan/anyloss_extension, Han et al. 2024, arXiv:2405.14745",
        definition="inferred",
        shift_invariant=False,
        where=False,
    ),
    Row(
        splitter_penalty,
        "elementwise",
        _only_logits,
        "doheonhan/anyloss_extension, Han et al. 2024, arXiv:2405.14745",
        definition="code",
        shift_invariant=False,
        upper=0.25,
        where=False,
        note="A penalty, which takes no labels.",
    ),
    Row(
        anyloss,
        "batch",
        binary_labels,
        "AnyLoss, Han et al. 2024, arXiv:2405.14745",
        definition="code",
        hyper={"scale": 10.0},
        golden="anyloss",
        shift_invariant=False,
        upper=1.0,
        shape=(6,),
    ),
)
