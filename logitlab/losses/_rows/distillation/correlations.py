"""Catalogue rows of ``logitlab.losses.distillation.correlations``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import teacher_pairs
from logitlab.losses.distillation.correlations import (
    dist_inter_loss,
    dist_intra_loss,
    dist_loss,
)

ROWS = (
    Row(
        dist_loss,
        "batch",
        teacher_pairs,
        "DIST, Huang et al. 2022, arXiv:2205.10536",
        definition="code",
        golden="dist",
        upper=4.0,
        rtol=1e-4,
        cost="probabilities of both models, with and without their means",
    ),
    Row(
        dist_inter_loss,
        "example",
        teacher_pairs,
        "DIST, Huang et al. 2022, arXiv:2205.10536",
        definition="code",
        golden="dist",
        upper=2.0,
        rtol=1e-4,
        cost="probabilities of both models, with and without their means",
    ),
    Row(
        dist_intra_loss,
        "batch",
        teacher_pairs,
        "DIST, Huang et al. 2022, arXiv:2205.10536",
        definition="code",
        golden="dist",
        upper=2.0,
        rtol=1e-4,
        cost="probabilities of both models, with and without their means",
        note="Returns one value per class.",
    ),
)
