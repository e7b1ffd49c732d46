"""Catalogue rows of ``logitlab.losses.topk``."""

from logitlab.losses._rows.margin import _row
from logitlab.losses.topk import smooth_topk_loss, topk_hinge_loss

ROWS = (
    _row(
        topk_hinge_loss,
        "Lapin, Hein and Schiele 2015, arXiv:1511.06683",
        definition="paper",
        hyper=dict(k=2),
        gathers="the k largest logits of an example are found on one device",
    ),
    _row(
        smooth_topk_loss,
        "Berrada, Zisserman and Kumar 2018, arXiv:1802.07595",
        definition="paper",
        hyper=dict(k=2),
        convex=False,
        smooth=True,
        rtol=1e-4,
        gathers="classes are visited one after another",
    ),
)
