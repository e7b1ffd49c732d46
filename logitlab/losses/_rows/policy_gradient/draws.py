"""Arguments and rows that policy-gradient losses share."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row

__all__ = ["rollouts", "row"]


def rollouts(key, shape, dtype):
    """Log-probabilities, those of an older policy, and advantages of sequences."""
    keys = jax.random.split(key, 3)
    logps = -jnp.abs(2 * jax.random.normal(keys[0], shape, dtype))
    old = logps + 0.5 * jax.random.normal(keys[1], shape, dtype)
    return logps, old, jax.random.normal(keys[2], shape[:-1], dtype)


def row(loss, kind, source, **facts) -> Row:
    """What is true of every surrogate."""
    shared = dict(make=rollouts, definition="code", golden="policy_gradient_losses")
    return Row(
        loss,
        kind,
        source=source,
        shift_invariant=False,
        lower=None,
        where=False,
        tokens=True,
        **shared | facts,
    )
