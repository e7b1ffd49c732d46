"""Catalogue rows of ``logitlab.losses.policy_gradient.discriminative``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.policy_gradient.discriminative import disco_loss, drpo_loss


def _answers(key, shape, dtype):
    keys = jax.random.split(key)
    logps = -jnp.abs(jax.random.normal(keys[0], shape, dtype))
    old = logps + 0.05 * jax.random.normal(keys[1], shape, dtype)
    at = jnp.arange(shape[0])
    return logps, old, (at % 2).astype(dtype), at // 4


_ROW = dict(
    kind="batch",
    make=_answers,
    definition="code",
    golden="drpo",
    shift_invariant=False,
    lower=None,
    where=False,
    tokens=True,
    surrogate="the weight of the penalty carries no gradient",
    gathers="answers are compared with all others",
)


ROWS = (
    Row(
        drpo_loss,
        source="DRPO 2025, arXiv:2510.04474",
        hyper=dict(max_length=8.0),
        **_ROW,
    ),
    Row(disco_loss, source="DisCO, Li et al. 2025, arXiv:2505.12366", **_ROW),
)
