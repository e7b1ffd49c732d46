"""Catalogue rows of ``logitlab.losses.density``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.density import meco_loss, nce_loss

_SOURCE = (
    "Learning Unnormalized Statistical Models via Compositional Optimization, "
    "arXiv:2306.07485"
)


def _samples(key, shape, dtype):
    data, noise = shape, (shape[0] + 1, *shape[1:])
    keys = jax.random.split(key, 4)
    return tuple(
        jax.random.normal(key, size, dtype)
        for key, size in zip(keys, (data, noise, data, noise), strict=True)
    )


def _noise_samples(key, shape, dtype):
    data, noise, _, logq = _samples(key, shape, dtype)
    return data, noise, logq, jnp.zeros((), dtype)


ROWS = (
    Row(
        nce_loss,
        "batch",
        _samples,
        "Gutmann and Hyvarinen 2010; " + _SOURCE,
        definition="paper",
        hyper={"log_z": 0.0},
        shift_invariant=False,
        convex=False,
        where=False,
        shape=(6,),
        note="The logits are log-densities; it takes ``mask`` and ``noise_mask``.",
    ),
    Row(
        meco_loss,
        "batch",
        _noise_samples,
        _SOURCE,
        definition="inferred",
        shift_invariant=False,
        lower=None,
        where=False,
        shape=(6,),
        surrogate="the importance weights carry no gradient",
    ),
)
