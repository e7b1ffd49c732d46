"""Catalogue rows of ``logitlab.losses.policy_gradient.returns``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.policy_gradient.returns import clipped_value_loss


def _values(key, shape, dtype):
    keys = jax.random.split(key, 3)
    values = jax.random.normal(keys[0], shape, dtype)
    old = values + 0.3 * jax.random.normal(keys[1], shape, dtype)
    return values, old, jax.random.normal(keys[2], shape, dtype)


ROWS = (
    Row(
        clipped_value_loss,
        "elementwise",
        _values,
        "PPO, Schulman et al. 2017, arXiv:1707.06347",
        definition="code",
        golden="gae_value",
        shift_invariant=False,
        convex=True,
        where=False,
        tokens=True,
        note="Takes predicted values in place of logits.",
    ),
)
