"""Catalogue rows of ``logitlab.losses.distillation.matching``."""

from logitlab.losses._rows import Row
from logitlab.losses._rows.distillation.draws import (
    labelled_pairs,
    teacher_pairs,
)
from logitlab.losses.distillation.matching import (
    binary_kl,
    logit_mse_loss,
    normalized_binary_kl,
    self_distill_mse_loss,
)


def _labels_between(key, shape, dtype):
    s, t, y = labelled_pairs(key, shape, dtype)
    return s, y, t


_DHKD = "Dual-Head KD, Yang et al. 2024, arXiv:2411.08937"


ROWS = (
    Row(
        logit_mse_loss,
        "example",
        teacher_pairs,
        "Ba and Caruana 2014, arXiv:1312.6184",
        definition="paper",
        shift_invariant=False,
        convex=True,
    ),
    Row(
        self_distill_mse_loss,
        "example",
        _labels_between,
        "Borup and Andersen 2021, arXiv:2102.13088",
        definition="paper",
        hyper={"alpha": 0.35},
        upper=1.0,
        cost="distributions of both models",
    ),
    Row(
        binary_kl,
        "example",
        teacher_pairs,
        _DHKD,
        definition="code",
        golden="dhkd",
        shift_invariant=False,
        convex=True,
        cost="two probabilities for each class and model",
    ),
    Row(
        normalized_binary_kl,
        "example",
        teacher_pairs,
        _DHKD,
        definition="code",
        golden="dhkd",
        shift_invariant=False,
        convex=True,
        cost="a hyperbolic cosine of every logit",
    ),
)
