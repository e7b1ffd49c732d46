"""Catalogue rows of ``logitlab.losses.regression_as_classification``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.regression_as_classification import (
    c51_loss,
    hl_gauss_loss,
    two_hot_loss,
)

_SOURCE = "Stop Regressing, Farebrother et al. 2024, arXiv:2403.03950"


def _scalar_targets(key, shape, dtype):
    z, t = jax.random.split(key)
    logits = 3 * jax.random.normal(z, shape, dtype)
    return logits, jax.random.uniform(t, shape[:-1], dtype, -1, 1)


def _bellman_targets(key, shape, dtype):
    z, p, r, d = jax.random.split(key, 4)
    probs = jax.nn.softmax(jax.random.normal(p, shape, dtype))
    reward = jax.random.uniform(r, shape[:-1], dtype)
    discount = jax.random.uniform(d, shape[:-1], dtype)
    atoms = jnp.linspace(-1, 1, shape[-1], dtype=dtype)
    return 3 * jax.random.normal(z, shape, dtype), probs, reward, discount, atoms


ROWS = (
    Row(
        hl_gauss_loss,
        "example",
        _scalar_targets,
        _SOURCE,
        definition="code",
        hyper={"vmin": -1.0, "vmax": 1.0},
        golden="hl_gauss",
        convex=True,
        where=False,
        symmetric=False,
        cost="the target's histogram is another array of the logits' size",
    ),
    Row(
        two_hot_loss,
        "example",
        _scalar_targets,
        _SOURCE,
        definition="paper",
        hyper={"vmin": -1.0, "vmax": 1.0},
        convex=True,
        where=False,
        symmetric=False,
    ),
    Row(
        c51_loss,
        "example",
        _bellman_targets,
        "C51, Bellemare et al. 2017, arXiv:1707.06887",
        definition="code",
        golden="categorical_projection",
        convex=True,
        where=False,
        symmetric=False,
        gathers="probability moves between any two atoms",
    ),
)
