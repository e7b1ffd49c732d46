"""Catalogue rows of ``logitlab.losses.policy_gradient.sequence_surrogates``."""

from logitlab.losses._rows.policy_gradient import draws
from logitlab.losses.policy_gradient.sequence_surrogates import (
    gmpo_loss,
    gspo_loss,
    gspo_token_loss,
    reinforce_loss,
    rloo_loss,
)


def _without_old(key, shape, dtype):
    logps, _, advantages = draws.rollouts(key, shape, dtype)
    return logps, advantages


ROWS = (
    draws.row(gspo_loss, "sequence", "GSPO, Zheng et al. 2025, arXiv:2507.18071"),
    draws.row(
        gspo_token_loss,
        "sequence",
        "GSPO, Zheng et al. 2025, arXiv:2507.18071",
        surrogate="the ratio of the sequence carries no gradient",
    ),
    draws.row(gmpo_loss, "sequence", "GMPO, Zhao et al. 2025, arXiv:2507.20673"),
    draws.row(rloo_loss, "sequence", "RLOO, Ahmadian et al. 2024, arXiv:2402.14740"),
    draws.row(
        reinforce_loss,
        "sequence",
        "Williams 1992, Machine Learning 8",
        definition="paper",
        make=_without_old,
        golden=None,
        convex=True,
    ),
)
