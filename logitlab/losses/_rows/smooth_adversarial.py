"""Catalogue rows of ``logitlab.losses.smooth_adversarial``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.smooth_adversarial import (
    adversarial_comp_rho_margin_loss,
    margin_shift_penalty,
    smooth_adversarial_comp_sum_loss,
)


def _attacked(key, shape, dtype):
    logits_key, adv_key = jax.random.split(key)
    logits, labels = class_labels(logits_key, shape, dtype)
    return logits, logits + jax.random.normal(adv_key, shape, dtype), labels


_PAPER = "Mao, Mohri and Zhong 2023, arXiv:2304.07288"


ROWS = (
    Row(
        smooth_adversarial_comp_sum_loss,
        "example",
        _attacked,
        _PAPER,
        definition="inferred",
        convex=True,
        note="Takes clean and attacked logits; calibrated for robust accuracy.",
        cost="clean and attacked logits are two arrays",
    ),
    Row(
        margin_shift_penalty,
        "example",
        _attacked,
        _PAPER,
        definition="paper",
        convex=True,
        note="The objective of the attack.",
        cost="clean and attacked logits are two arrays",
    ),
    Row(
        adversarial_comp_rho_margin_loss,
        "example",
        class_labels,
        _PAPER,
        definition="paper",
        smooth=False,
        cost="margins to all rivals are kept for the gradient",
    ),
)
