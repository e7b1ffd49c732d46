"""Catalogue rows of ``logitlab.losses.comp_sums``."""

import jax.numpy as jnp

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.comp_sums import (
    comp_rho_margin_loss,
    comp_sum_loss,
    cross_entropy,
    focal_loss,
    weighted_cross_entropy,
)


def _with_weights(key, shape, dtype):
    return *class_labels(key, shape, dtype), jnp.linspace(0.5, 2, shape[-1])


ROWS = (
    Row(
        cross_entropy,
        "example",
        class_labels,
        "Prieto et al. 2025, arXiv:2501.04697",
        definition="code",
        golden="stablemax",
        convex=True,
        calibrated=True,
        proper=True,
        label_only=True,
    ),
    Row(
        comp_sum_loss,
        "example",
        class_labels,
        "Mao, Mohri and Zhong 2023, arXiv:2304.07288",
        definition="code",
        hyper=dict(tau=1.5),
        golden="robust_baselines",
        upper=2.0,
        calibrated=True,
        label_only=True,
        note="Convex for ``tau <= 1``; bounded by ``1 / (tau - 1)`` for ``tau > 1``.",
    ),
    Row(
        comp_rho_margin_loss,
        "example",
        class_labels,
        "Mao, Mohri and Zhong 2023, arXiv:2304.07288",
        definition="paper",
        smooth=False,
        cost="margins to all rivals are kept for the gradient",
    ),
    Row(
        focal_loss,
        "example",
        class_labels,
        "Lin et al. 2017, arXiv:1708.02002",
        definition="paper",
        calibrated=True,
        label_only=True,
    ),
    Row(
        weighted_cross_entropy,
        "example",
        _with_weights,
        "torch.nn.CrossEntropyLoss(weight=...)",
        definition="code",
        golden="standard_losses",
        convex=True,
        label_only=True,
        symmetric=False,
        note="Takes one weight per class.",
    ),
)
