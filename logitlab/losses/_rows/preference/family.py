"""Catalogue rows of ``logitlab.losses.preference.family``."""

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.family import dpo_loss, rpo_loss

ROWS = (
    draws.pair_row(
        dpo_loss,
        "Rafailov et al. 2023, arXiv:2305.18290",
        definition="code",
        golden="dpo_family",
        convex=True,
    ),
    draws.pair_row(
        rpo_loss,
        "Liu et al. 2024, arXiv:2405.16436",
        definition="code",
        golden="dpo_family",
        convex=True,
        shift_invariant=False,
        lower=None,
    ),
)
