"""Catalogue rows of ``logitlab.losses.fairness``."""

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.fairness import (
    concatenated_distance_covariance_penalty,
    decorrelation_loss,
    factor_consistency_loss,
    fairness_regularized_loss,
    joint_distance_covariance_penalty,
    worst_group_loss,
)

_GROUPS = "Algorithmic bias in depression detection 2025, arXiv:2509.25795"
_PENALTY = "Intersectional fairness through regularisation 2025"


def _groups(key, shape, dtype):
    losses = 3 * jax.random.normal(key, shape, dtype)
    return losses, jnp.arange(losses.size).reshape(shape) % 3


def _attributes(key, shape, dtype):
    p, a, b = jax.random.split(key, 3)
    numbers = jax.random.normal(a, shape[:1], dtype)
    vectors = jax.random.normal(b, (shape[0], shape[-1] + 1), dtype)
    return 3 * jax.random.normal(p, shape, dtype), numbers, vectors


def _factors(key, shape, dtype):
    attributions, reference = jax.random.split(key)
    shares = jax.random.uniform(reference, shape[-1:], dtype, 0.1, 1)
    return jax.random.normal(attributions, shape, dtype), shares


def _representations(key, shape, dtype):
    keys = jax.random.split(key, 3)
    z = 3 * jax.random.normal(keys[0], shape, dtype)
    weights = jax.random.uniform(keys[1], shape[:1], dtype, 0.5, 1.5)
    return z, weights, jnp.arange(shape[1]) // 2, keys[2]


_GROUP_ROW = dict(
    kind="batch",
    make=_groups,
    source=_GROUPS,
    definition="inferred",
    shift_invariant=False,
    convex=True,
    lower=None,
    where=False,
    gathers="a group is summed over the devices that hold its examples",
    shape=(7,),
    note="The first argument is losses.",
)
_PENALTY_ROW = dict(
    kind="batch",
    make=_attributes,
    definition="code",
    golden="dcov",
    shift_invariant=False,
    lower=None,
    where=False,
    gathers="all pairs of examples are compared",
    cost="it holds arrays of all pairs of examples",
    rtol=1e-4,
    shape=(7, 3),
    note="The first argument is probabilities or means.",
)


ROWS = (
    Row(worst_group_loss, hyper=dict(num_groups=3), **_GROUP_ROW),
    Row(
        fairness_regularized_loss,
        hyper=dict(num_groups=3, weight=0.5),
        **_GROUP_ROW,
    ),
    Row(
        joint_distance_covariance_penalty,
        source=f"{_PENALTY}; Chakraborty and Zhang 2019, arXiv:1711.09179",
        **_PENALTY_ROW,
    ),
    Row(concatenated_distance_covariance_penalty, source=_PENALTY, **_PENALTY_ROW),
    Row(
        factor_consistency_loss,
        kind="batch",
        make=_factors,
        source="Factor consistency, arXiv:2402.12398",
        definition="inferred",
        shift_invariant=False,
        where=False,
        gathers="features are averaged over the examples",
        rtol=1e-4,
        shape=(7, 3),
        note="The first argument is attributions.",
    ),
    Row(
        decorrelation_loss,
        "batch",
        _representations,
        "L2R-GNN, 2024, arXiv:2312.12475; StableNet, Zhang et al. 2021, "
        "arXiv:2104.07876",
        definition="inferred",
        hyper=dict(l2=0.1),
        shift_invariant=False,
        where=False,
        symmetric=False,  # each column has features of its own
        rtol=1e-4,
        gathers="covariances of all pairs of columns are compared",
        cost="it holds covariances of all pairs of columns",
        shape=(7, 5),
        note="The first argument is representations.",
    ),
)
