"""Catalogue rows of ``logitlab.losses.adversarial``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.adversarial import (
    adversarial_cross_entropy,
    kl_dro_loss,
    logit_pairing_loss,
    mart_loss,
    ramp_pairing_loss,
    trades_loss,
)

_ALP = "Kannan, Kurakin and Goodfellow 2018, arXiv:1803.06373"
_TWO = "clean and attacked logits are two arrays"


def _attacked(key, shape, dtype):
    logits_key, adversarial_key = jax.random.split(key)
    logits, labels = class_labels(logits_key, shape, dtype)
    moved = 2 * jax.random.normal(adversarial_key, shape, dtype)
    return logits, logits + moved, labels


def _two_logits(key, shape, dtype):
    return _attacked(key, shape, dtype)[:2]


def _losses(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    Row(
        trades_loss,
        "example",
        _attacked,
        "Zhang et al. 2019, arXiv:1901.08573",
        definition="code",
        golden="trades_mart",
        hyper=dict(beta=6.0),
        cost="distributions of clean and attacked logits, and their ratio",
    ),
    Row(
        mart_loss,
        "example",
        _attacked,
        'Wang et al. 2020, "Improving adversarial robustness requires revisiting '
        'misclassified examples"',
        definition="code",
        golden="trades_mart",
        hyper=dict(beta=6.0),
        lower=None,
        cost="distributions of clean and attacked logits, and their ratio",
        note="The epsilons of the official code are arguments; 0 makes it exact.",
    ),
    Row(
        adversarial_cross_entropy,
        "example",
        _attacked,
        f"Madry et al. 2018, arXiv:1706.06083; {_ALP}",
        definition="paper",
        convex=True,
        cost=_TWO,
    ),
    Row(
        logit_pairing_loss,
        "example",
        _two_logits,
        _ALP,
        definition="paper",
        shift_invariant=False,
        convex=True,
        cost=_TWO,
    ),
    Row(
        ramp_pairing_loss,
        "example",
        _attacked,
        "RAMP, Jiang and Singh 2024, arXiv:2402.06827",
        definition="code",
        golden="ramp_pairing",
        smooth=False,
        cost="distributions of two attacked logits, and their ratio",
    ),
    Row(
        kl_dro_loss,
        "batch",
        _losses,
        "doubly robust instance-reweighted adversarial training, Sow et al. 2024, "
        "arXiv:2308.00311",
        definition="inferred",
        hyper=dict(r=0.7),
        shift_invariant=False,
        convex=True,
        lower=None,
        where=False,
        shape=(7,),
        note="The first argument is losses.",
    ),
)
