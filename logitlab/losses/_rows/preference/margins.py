"""Catalogue rows of ``logitlab.losses.preference.margins``."""

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.margins import (
    discopop_loss,
    dpo_hinge_loss,
    exo_loss,
    ipo_loss,
    r_dpo_loss,
    robust_dpo_loss,
    sigmoid_norm_loss,
)


def _row(loss, source, make=draws.referenced, **facts):
    return draws.pair_row(
        loss, source, make, definition="code", golden="dpo_family", **facts
    )


ROWS = (
    _row(
        robust_dpo_loss,
        "Chowdhury et al. 2024, arXiv:2403.00409",
        convex=True,
        lower=None,
    ),
    _row(dpo_hinge_loss, "RSO, Liu et al. 2024, arXiv:2309.06657", convex=True),
    _row(
        ipo_loss,
        "Azar et al. 2023, arXiv:2310.12036",
        draws.with_lengths,
        convex=True,
        shift_invariant=False,
    ),
    _row(
        exo_loss,
        "Ji et al. 2024, arXiv:2402.00856",
        inexact="two logarithms cancel near the minimum; right to 1e-7 of them",
    ),
    _row(discopop_loss, "Lu et al. 2024, arXiv:2406.08414"),
    _row(
        sigmoid_norm_loss,
        "Tulu 3, Lambert et al. 2024, arXiv:2411.15124",
        draws.with_lengths,
        convex=True,
        shift_invariant=False,
    ),
    _row(
        r_dpo_loss,
        "Park et al. 2024, arXiv:2403.19159",
        draws.with_lengths,
        convex=True,
    ),
)
