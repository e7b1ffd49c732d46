"""Catalogue rows of ``logitlab.losses.preference.supervised``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.preference.supervised import sft_loss

ROWS = (
    Row(
        sft_loss,
        "batch",
        class_labels,
        "Ouyang et al. 2022, arXiv:2203.02155",
        definition="code",
        golden="sequence_logprob_dpo",
        convex=True,
        calibrated=True,
    ),
)
