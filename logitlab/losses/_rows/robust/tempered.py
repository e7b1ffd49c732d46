"""Catalogue rows of ``logitlab.losses.robust.tempered``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.robust.tempered import bi_tempered_logistic_loss

ROWS = (
    Row(
        bi_tempered_logistic_loss,
        "example",
        class_labels,
        "Amid et al. 2019, arXiv:1906.03361",
        definition="code",
        golden="bi_tempered",
        upper=1 / 0.2,
        note="Bounded for ``t1 < 1``.",
        cost="the normalizer is found by 25 passes over the logits",
    ),
)
