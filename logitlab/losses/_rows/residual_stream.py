"""Catalogue row of ``logitlab.losses.residual_stream``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.residual_stream import residual_std_loss


def _streams(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


ROWS = (
    Row(
        residual_std_loss,
        kind="batch",
        make=_streams,
        source="Transformers don't need LayerNorm at inference time, arXiv:2507.02559",
        definition="code",
        shift_invariant=True,
        where=False,
        gathers="a deviation is that of all units of a token",
        rtol=1e-3,
        shape=(7, 5),
        surrogate="the mean deviation is a target and carries no gradient",
        note="The first argument is hidden vectors.",
    ),
)
