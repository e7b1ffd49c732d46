"""Catalogue rows of ``logitlab.sequences``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.sequences import mean_token_nll

ROWS = (
    Row(
        mean_token_nll,
        "sequence",
        class_labels,
        "Maximum likelihood",
        definition="paper",
        convex=True,
        where=False,
        symmetric=False,
        shape=(4, 3, 5),
        note="``mask`` selects tokens.",
    ),
)
