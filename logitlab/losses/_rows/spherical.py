"""Catalogue rows of ``logitlab.losses.spherical``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.spherical import (
    spherical_mse_loss,
    spherical_softmax_loss,
    spherical_z_loss,
    taylor_softmax_loss,
)

ROWS = (
    Row(
        spherical_z_loss,
        "example",
        class_labels,
        "de Brebisson and Vincent 2016, arXiv:1604.08859",
        definition="code",
        golden="z_loss",
        note="The gradient vanishes for two classes, whose standardized logits are -1 "
        "and 1; otherwise it scales with 1 / the standard deviation of the logits.",
        cost="standardized logits are another array",
    ),
    Row(
        spherical_softmax_loss,
        "example",
        class_labels,
        "de Brebisson and Vincent 2016, arXiv:1511.05042",
        definition="paper",
        shift_invariant=False,
        note="Even in each logit; proper with its link, ``links.spherical_softmax``.",
        cost="squared scores and their logarithms are arrays",
    ),
    Row(
        taylor_softmax_loss,
        "example",
        class_labels,
        "de Brebisson and Vincent 2016, arXiv:1511.05042",
        definition="paper",
        shift_invariant=False,
        note="Proper with its link, ``links.taylor_softmax``.",
        cost="polynomials of the scores and their logarithms are arrays",
    ),
    Row(
        spherical_mse_loss,
        "example",
        class_labels,
        "de Brebisson and Vincent 2016, arXiv:1511.05042",
        definition="paper",
        shift_invariant=False,
        convex=True,
        calibrated=True,
        note="Minimized by logits that are the probabilities.",
        cost="differences from the label are another array",
    ),
)
