"""Catalogue rows of ``logitlab.losses.preference.games``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.games import inpo_loss, nash_md_pg_loss, xpo_loss


def _three_policies(key, shape, dtype):
    prev = draws.referenced(jax.random.fold_in(key, 3), shape, dtype)[:2]
    return *draws.referenced(key, shape, dtype), *prev


def _explored(key, shape, dtype):
    sample = jax.random.normal(jax.random.fold_in(key, 3), shape, dtype)
    return *draws.referenced(key, shape, dtype), sample


def _tokens(key, shape, dtype):
    logps, ref = -abs(jax.random.normal(key, (2, *shape), dtype))
    return logps, ref, jax.random.uniform(jax.random.fold_in(key, 1), shape[:-1], dtype)


ROWS = (
    draws.pair_row(
        inpo_loss,
        "Zhang et al. 2024, arXiv:2407.00617",
        _three_policies,
        definition="paper",
        hyper={"eta": 0.5, "tau": 0.2},
        convex=True,
    ),
    draws.pair_row(
        xpo_loss,
        "Xie et al. 2024, arXiv:2405.21046",
        _explored,
        definition="code",
        hyper={"alpha": 0.1},
        convex=True,
        lower=None,
    ),
    Row(
        nash_md_pg_loss,
        "sequence",
        _tokens,
        "Munos et al. 2023, arXiv:2312.00886",
        definition="code",
        hyper={"beta": 0.1},
        shift_invariant=False,
        lower=None,
        where=False,
        surrogate="the KL divergence is that of a policy gradient",
    ),
)
