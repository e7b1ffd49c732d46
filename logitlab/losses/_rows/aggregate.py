"""Catalogue rows of ``logitlab.losses.aggregate``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.aggregate import (
    bag_loss,
    instance_loss,
    interpolated_aggregate_loss,
)

_SOURCE = "Learning from Aggregate responses, Javanmard et al. 2024, arXiv:2401.11081"


def _bag_labels(key, shape, dtype):
    z, y = jax.random.split(key)
    bags = (shape[0] + 1) // 2
    probs = jax.nn.softmax(jax.random.normal(y, (bags, shape[-1]), dtype))
    ids = jnp.arange(shape[0]) // 2
    ids = jnp.broadcast_to(ids.reshape(-1, *(1,) * (len(shape) - 2)), shape[:-1])
    return 3 * jax.random.normal(z, shape, dtype), probs, ids


ROWS = (
    Row(
        bag_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        definition="paper",
        gathers="a bag is summed over the devices that hold its examples",
        note="Returns one value per bag.",
    ),
    Row(
        instance_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        definition="paper",
        convex=True,
        gathers="a bag is summed over the devices that hold its examples",
        note="Returns one value per bag.",
    ),
    Row(
        interpolated_aggregate_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        definition="paper",
        gathers="a bag is summed over the devices that hold its examples",
        note="Returns one value per bag.",
    ),
)
