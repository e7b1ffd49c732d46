"""Catalogue rows of ``logitlab.losses.binary``."""

from logitlab.losses._rows import Row, binary_labels
from logitlab.losses.binary import sigmoid_cross_entropy

ROWS = (
    Row(
        sigmoid_cross_entropy,
        "elementwise",
        binary_labels,
        "Good 1952, Rational Decisions, JRSS B 14",
        definition="paper",
        shift_invariant=False,
        convex=True,
        calibrated=True,
        proper=True,
    ),
)
