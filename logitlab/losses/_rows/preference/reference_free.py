"""Catalogue rows of ``logitlab.losses.preference.reference_free``."""

import jax

from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.reference_free import (
    alphapo_loss,
    cpo_loss,
    orpo_odds_ratio_loss,
    rrhf_loss,
    simpo_loss,
    slic_hf_loss,
    tpo_loss,
)


def _log_probs(key, shape, dtype):
    """Means over tokens, all below 0."""
    return tuple(-abs(a) for a in draws.without_reference(key, shape, dtype))


def _with_gold(key, shape, dtype):
    gold = -abs(jax.random.normal(jax.random.fold_in(key, 1), shape, dtype))
    return *draws.without_reference(key, shape, dtype), gold


def _row(loss, source, make=draws.without_reference, **facts):
    facts = dict(golden="reference_free_pairwise") | facts
    return draws.pair_row(loss, source, make, **facts)


ROWS = (
    _row(cpo_loss, "Xu et al. 2024, arXiv:2401.08417", definition="code", convex=True),
    _row(
        simpo_loss, "Meng et al. 2024, arXiv:2405.14734", definition="code", convex=True
    ),
    _row(
        alphapo_loss,
        "Gupta et al. 2025, arXiv:2501.03884",
        definition="code",
        shift_invariant=False,
    ),
    _row(
        orpo_odds_ratio_loss,
        "Hong et al. 2024, arXiv:2403.07691",
        _log_probs,
        definition="code",
        shift_invariant=False,
    ),
    _row(
        rrhf_loss, "Yuan et al. 2023, arXiv:2304.05302", definition="code", convex=True
    ),
    _row(
        slic_hf_loss,
        "Zhao et al. 2023, arXiv:2305.10425",
        definition="paper",
        golden=None,
        convex=True,
    ),
    _row(
        tpo_loss,
        "Saeidi et al. 2024, arXiv:2405.16681",
        _with_gold,
        definition="code",
        hyper={"beta": 0.5},
        golden=None,
        convex=True,
        lower=None,
    ),
)
