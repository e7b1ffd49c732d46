"""Catalogue rows of ``logitlab.losses.preference.absolute``."""

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.absolute import (
    aot_loss,
    apo_down_loss,
    apo_zero_loss,
    bco_pair_loss,
    dpop_loss,
    nca_loss,
    sppo_loss,
)


def _row(loss, source, **facts):
    return draws.pair_row(loss, source, definition="code", golden="dpo_family", **facts)


_ABSOLUTE = dict(shift_invariant=False, convex=True)


ROWS = (
    _row(nca_loss, "Chen et al. 2024, arXiv:2402.05369", **_ABSOLUTE),
    _row(bco_pair_loss, "Jung et al. 2024, arXiv:2404.04656", **_ABSOLUTE),
    _row(sppo_loss, "Wu et al. 2024, arXiv:2405.00675", **_ABSOLUTE),
    _row(
        apo_zero_loss,
        "D'Oosterlinck et al. 2024, arXiv:2408.06266",
        shift_invariant=False,
        upper=2.0,
    ),
    _row(
        apo_down_loss,
        "D'Oosterlinck et al. 2024, arXiv:2408.06266",
        shift_invariant=False,
        upper=2.0,
    ),
    _row(dpop_loss, "Pal et al. 2024, arXiv:2402.13228", **_ABSOLUTE),
    _row(
        aot_loss,
        "Melnyk et al. 2024, arXiv:2406.05882",
        gathers="a batch is sorted on one device",
        note="Losses come in sorted order; takes mask",
    ),
)
