"""Catalogue rows of ``logitlab.losses.policy_gradient.kl``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.policy_gradient.kl import kl_k1, kl_k2, kl_k3


def _two_policies(key, shape, dtype):
    keys = jax.random.split(key)
    logps = -jnp.abs(2 * jax.random.normal(keys[0], shape, dtype))
    return logps, logps + 0.5 * jax.random.normal(keys[1], shape, dtype)


_ROW = dict(
    kind="elementwise",
    make=_two_policies,
    source='Schulman 2020, "Approximating KL divergence"',
    definition="code",
    golden="policy_gradient_losses",
    shift_invariant=False,
    convex=True,
    where=False,
    tokens=True,
)


ROWS = (
    Row(kl_k1, lower=None, **_ROW),
    Row(kl_k2, **_ROW),
    Row(kl_k3, **_ROW),
)
