"""Catalogue rows of ``logitlab.losses.quantile``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.quantile import (
    crossing_penalty,
    huber_pinball_loss,
    interval_score,
    pinball_loss,
    weighted_interval_score,
)

_SOURCE = "Quantile aggregation, Fakoor et al. 2023, arXiv:2103.00083"


def _quantile_targets(key, shape, dtype):
    q, y = jax.random.split(key)
    levels = (jnp.arange(shape[-1], dtype=dtype) + 0.5) / shape[-1]
    pred = jax.random.normal(q, shape, dtype)
    return pred, jax.random.normal(y, shape[:-1], dtype), levels


def _quantiles_only(key, shape, dtype):
    return (jax.random.normal(key, shape, dtype),)


_ROW = dict(
    make=_quantile_targets,
    source=_SOURCE,
    definition="code",
    golden="quantile_aggregation",
    shift_invariant=False,
    convex=True,
    where=False,
    symmetric=False,
)


ROWS = (
    Row(pinball_loss, "elementwise", **_ROW),
    Row(huber_pinball_loss, "elementwise", hyper={"width": 0.1}, **_ROW),
    Row(
        interval_score,
        "pair",
        lower=None,
        gathers="each level is paired with its complement",
        **_ROW,
    ),
    Row(weighted_interval_score, "example", **_ROW),
    Row(
        crossing_penalty,
        "example",
        gathers="levels are compared in pairs",
        **_ROW | {"make": _quantiles_only, "shift_invariant": True},
    ),
)
