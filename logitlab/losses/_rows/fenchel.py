"""Catalogue rows of ``logitlab.losses.fenchel``."""

from logitlab import numerics
from logitlab.losses._rows import Row, class_labels
from logitlab.losses.fenchel import fenchel_young_loss, fenchel_young_max_loss

ROWS = (
    Row(
        fenchel_young_loss,
        "example",
        class_labels,
        "Blondel, Martins and Niculae 2020, arXiv:1901.02324",
        definition="code",
        golden="entmax",
        convex=True,
        calibrated=True,
        smooth=False,
        note="Proper with its link, ``links.entmax(alpha=...)``.",
        cost="each row is sorted to find the threshold of its entmax",
    ),
    Row(
        fenchel_young_max_loss,
        "example",
        class_labels,
        "Blondel, Martins and Niculae 2020, arXiv:1901.02324",
        definition="paper",
        hyper={"max_fun": numerics.logsumexp},
        convex=True,
        calibrated=True,
        proper=True,
        note="The loss of any max function; this row describes that of the softmax.",
        cost="scores measured from the label's are another array",
    ),
)
