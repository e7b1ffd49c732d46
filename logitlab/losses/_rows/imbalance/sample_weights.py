"""Catalogue rows of ``logitlab.losses.imbalance.sample_weights``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.imbalance.sample_weights import (
    likelihood_weighted_focal_loss,
    reweighted_loss,
)


def _with_likelihood(key, shape, dtype):
    values, chance = jax.random.split(key)
    losses = 3 * jax.random.normal(values, shape, dtype)
    return losses, jax.random.uniform(chance, shape, dtype)


def _only_losses(key, shape, dtype):
    return (jax.random.exponential(key, shape, dtype),)


ROWS = (
    Row(
        likelihood_weighted_focal_loss,
        "elementwise",
        _with_likelihood,
        "DatasetEquity 2023, arXiv:2308.09878",
        definition="code",
        golden="dequity_weight",
        shift_invariant=False,
        convex=True,
        lower=None,
        where=False,
        symmetric=False,
        note="Takes losses in place of logits.",
    ),
    Row(
        reweighted_loss,
        "batch",
        _only_losses,
        "Sow et al. 2025, arXiv:2502.06733",
        definition="code",
        golden="dynamic_reweighting",
        shift_invariant=False,
        lower=None,
        where=False,
        shape=(6,),
        surrogate="the weights, functions of the losses, carry no gradient",
        note="Takes losses in place of logits.",
    ),
)
