"""Catalogue rows of ``logitlab.losses.preference.f_divergences``."""

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.f_divergences import f_dpo_loss

ROWS = (
    draws.pair_row(
        f_dpo_loss,
        "Wang et al. 2023, arXiv:2309.16240",
        definition="code",
        golden="dpo_family",
        hyper={"f_divergence": "js_divergence"},
        shift_invariant=False,
    ),
)
