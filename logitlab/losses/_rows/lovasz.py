"""Catalogue rows of ``logitlab.losses.lovasz``."""

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses._rows.segmentation import _row
from logitlab.losses.lovasz import lovasz_hinge_loss, lovasz_softmax_loss

ROWS = (
    _row(
        lovasz_softmax_loss,
        "Berman, Triki and Blaschko 2018, arXiv:1705.08790",
        definition="paper",
        upper=1.0,
        smooth=False,
        gathers="the errors of a class are sorted on one device",
    ),
    Row(
        lovasz_hinge_loss,
        "batch",
        binary_labels,
        "Berman, Triki and Blaschko 2018, arXiv:1705.08790",
        definition="paper",
        shift_invariant=False,
        convex=True,
        smooth=False,
        shape=(6,),
        gathers="the errors of a set are sorted on one device",
    ),
)
