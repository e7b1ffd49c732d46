"""Catalogue rows of ``logitlab.losses.segmentation``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.segmentation import (
    class_dice_loss,
    dice_loss,
    dsc_loss,
    focal_tversky_loss,
    generalized_dice_loss,
    tversky_loss,
)

_SOURCE = "Dice Loss for Data-imbalanced NLP Tasks, Li et al. 2020, arXiv:1911.02855"


def _row(loss, source, **facts):
    return Row(loss, "batch", class_labels, source, **facts)


ROWS = (
    _row(dice_loss, _SOURCE, definition="code", golden="dice_loss"),
    _row(
        class_dice_loss,
        "Milletari et al. 2016, arXiv:1606.04797; Li et al. 2020, arXiv:1911.02855",
        definition="paper",
        upper=1.0,
        note="Returns one value per class.",
    ),
    _row(
        generalized_dice_loss,
        "Sudre et al. 2017, arXiv:1707.03237",
        definition="paper",
        upper=1.0,
        inexact="gradients of equally weighted classes cancel, to 1e-7 of their terms",
    ),
    Row(
        dsc_loss,
        "example",
        class_labels,
        _SOURCE,
        definition="code",
        golden="dice_loss",
        calibrated=False,
        cost="powers of all probabilities, exact near 0 and near 1",
    ),
    _row(tversky_loss, "Salehi et al. 2017, arXiv:1706.05721", definition="paper"),
    _row(
        focal_tversky_loss,
        "Abraham and Khan 2018, arXiv:1810.07842",
        definition="paper",
    ),
)
