"""Catalogue rows of ``logitlab.losses.regularized``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.regularized import (
    bootstrapping_loss,
    brier_loss,
    confidence_penalized_cross_entropy,
    confidence_penalty,
    label_smoothing_loss,
    logit_norm_loss,
    spherical_score_loss,
    z_loss,
)


def _only_logits(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    Row(
        label_smoothing_loss,
        "example",
        class_labels,
        "Szegedy et al. 2016, arXiv:1512.00567",
        definition="code",
        golden="standard_losses",
        convex=True,
        calibrated=True,
    ),
    Row(
        logit_norm_loss,
        "example",
        class_labels,
        "Wei et al. 2022, arXiv:2205.09310",
        definition="paper",
        shift_invariant=False,
        cost="the direction of the logits is another array",
    ),
    Row(
        bootstrapping_loss,
        "example",
        class_labels,
        "Reed et al. 2015, arXiv:1412.6596",
        definition="paper",
        surrogate="the model's own probabilities, as targets, carry no gradient",
    ),
    Row(
        confidence_penalty,
        "example",
        _only_logits,
        "Pereyra et al. 2017, arXiv:1701.06548",
        definition="paper",
        lower=None,
        upper=0.0,
        note="A penalty, which takes no labels.",
        cost="probabilities, their logarithms and products are further arrays",
    ),
    Row(
        confidence_penalized_cross_entropy,
        "batch",
        class_labels,
        "What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025, arXiv:2510.04067",
        definition="inferred",
        hyper={"lam": 0.5},
        note="The value is discontinuous where the rank of a label changes.",
    ),
    Row(
        z_loss,
        "example",
        _only_logits,
        "PaLM, Chowdhery et al. 2022, arXiv:2204.02311",
        definition="paper",
        shift_invariant=False,
        note="A penalty, which takes no labels.",
    ),
    Row(
        brier_loss,
        "example",
        class_labels,
        "Brier 1950",
        definition="code",
        golden="robust_baselines",
        upper=2.0,
        calibrated=True,
        proper=True,
        cost="exact differences of probabilities and labels are kept for the gradient",
    ),
    Row(
        spherical_score_loss,
        "example",
        class_labels,
        "Gneiting and Raftery 2007",
        definition="paper",
        upper=1.0,
        calibrated=True,
        proper=True,
    ),
)
