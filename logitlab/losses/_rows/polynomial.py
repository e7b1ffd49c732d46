"""Catalogue rows of ``logitlab.losses.polynomial``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.polynomial import poly1_loss, poly_n_loss

ROWS = (
    Row(
        poly1_loss,
        "example",
        class_labels,
        "Leng et al. 2022, arXiv:2204.12511",
        definition="code",
        golden="standard_losses",
        calibrated=True,
        label_only=True,
    ),
    Row(
        poly_n_loss,
        "example",
        class_labels,
        "Leng et al. 2022, arXiv:2204.12511",
        definition="paper",
        hyper=dict(eps=(1.0, -0.5, 0.25)),
        label_only=True,
        note="Calibrated if no coefficient is negative.",
    ),
)
