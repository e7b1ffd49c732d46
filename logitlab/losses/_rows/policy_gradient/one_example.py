"""Catalogue rows of ``logitlab.losses.policy_gradient.one_example``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.policy_gradient.one_example import rlvr_loss


def _rollouts(key, shape, dtype):
    keys = jax.random.split(key, 5)
    logits = 3 * jax.random.normal(keys[0], shape, dtype)
    labels = jax.random.randint(keys[1], shape[:-1], 0, shape[-1])
    old = -jnp.abs(2 * jax.random.normal(keys[2], shape[:-1], dtype))
    ref = old + 0.5 * jax.random.normal(keys[3], shape[:-1], dtype)
    return logits, labels, old, ref, jax.random.normal(keys[4], shape[:-1], dtype)


ROWS = (
    Row(
        rlvr_loss,
        "example",
        _rollouts,
        "One-shot RLVR, Wang et al. 2025, arXiv:2504.20571",
        definition="code",
        lower=None,
        cost="the entropy keeps probabilities, their logarithms and products",
        note="Returns one value per token.",
    ),
)
