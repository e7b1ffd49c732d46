"""Catalogue rows of ``logitlab.losses.ranking``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.ranking import bpr_loss, pairwise_bce_loss


def _two_scores(key, shape, dtype):
    return tuple(3 * jax.random.normal(key, (2, *shape), dtype))


_ROW = dict(
    kind="elementwise",
    make=_two_scores,
    shift_invariant=False,
    convex=True,
    calibrated=True,
    where=False,
)


ROWS = (
    Row(
        bpr_loss,
        source="Rendle et al. 2009, arXiv:1205.2618",
        definition="paper",
        **_ROW,
    ),
    Row(
        pairwise_bce_loss,
        source="Personalized denoising, Zhang et al. 2025, arXiv:2502.00348",
        definition="code",
        **_ROW,
    ),
)
