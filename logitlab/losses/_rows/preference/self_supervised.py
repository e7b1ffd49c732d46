"""Catalogue rows of ``logitlab.losses.preference.self_supervised``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses._rows.preference import draws
from logitlab.losses.preference.self_supervised import preference_degree_loss, spo_loss

ROWS = (
    draws.pair_row(
        spo_loss,
        "Li et al. 2024, arXiv:2409.17791",
        draws.without_reference,
        definition="inferred",
        convex=True,
        shift_invariant=False,
        lower=None,
        note="the two scores are losses",
    ),
    Row(
        preference_degree_loss,
        "example",
        class_labels,
        "Li et al. 2024, arXiv:2409.17791",
        definition="inferred",
        convex=True,
        calibrated=True,
        proper=True,
        label_only=True,
    ),
)
