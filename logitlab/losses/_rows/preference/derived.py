"""Catalogue rows of ``logitlab.losses.preference.derived``."""

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.derived import dpa_loss


def _log_probs(key, shape, dtype):
    return tuple(-abs(a) - 0.1 for a in draws.without_reference(key, shape, dtype))


ROWS = (
    draws.pair_row(
        dpa_loss,
        "Richardson et al. 2024, arXiv:2412.17696",
        _log_probs,
        definition="inferred",
        hyper={"name": "unCPO"},
        shift_invariant=False,
        inexact="slopes underflow where products of probabilities do, below 1e-30",
    ),
)
