"""Catalogue rows of ``logitlab.losses.binary``."""

import jax

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses.binary import (
    bandit_kl_loss,
    sigmoid_cross_entropy,
    smoothed_zero_one_loss,
)


def _observed_losses(key, shape, dtype):
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    return logits, jax.random.uniform(labels_key, shape, dtype)


def _margins(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    Row(
        sigmoid_cross_entropy,
        "elementwise",
        binary_labels,
        "Good 1952, Rational Decisions, JRSS B 14",
        definition="paper",
        shift_invariant=False,
        convex=True,
        calibrated=True,
        proper=True,
    ),
    Row(
        bandit_kl_loss,
        "elementwise",
        _observed_losses,
        "Deb et al. 2023, arXiv:2312.07145",
        definition="paper",
        shift_invariant=False,
        convex=True,
        calibrated=True,
        proper=True,
    ),
    Row(
        smoothed_zero_one_loss,
        "elementwise",
        _margins,
        "Gollakota et al. 2023, arXiv:2302.14853",
        definition="inferred",
        hyper=dict(sigma=0.5),
        shift_invariant=False,
        upper=1.0,
        where=False,
        note="The first argument is margins, which hold the labels.",
    ),
)
