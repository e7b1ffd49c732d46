"""Catalogue rows of ``logitlab.losses.robust.baselines``."""

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.robust.baselines import (
    asymmetric_gce_loss,
    asymmetric_unhinged_loss,
    generalized_cross_entropy,
    js_label_noise_loss,
    normalized_cross_entropy,
    symmetric_cross_entropy,
)


def _row(loss, source, upper=None, **facts):
    facts = dict(golden="robust_baselines", definition="code", label_only=True) | facts
    return Row(loss, "example", class_labels, source, upper=upper, **facts)


ROWS = (
    _row(
        symmetric_cross_entropy, "Wang et al. 2019, arXiv:1908.06112", calibrated=True
    ),
    _row(
        generalized_cross_entropy,
        "Zhang and Sabuncu 2018, arXiv:1805.07836",
        upper=1 / 0.7,
        calibrated=True,
    ),
    _row(
        normalized_cross_entropy,
        "Ma et al. 2020, arXiv:2006.13554",
        1.0,
        label_only=False,
        cost="needs the log-probabilities of all classes twice",
    ),
    _row(asymmetric_gce_loss, "Zhou et al. 2021, arXiv:2106.03110", upper=1.5),
    _row(
        asymmetric_unhinged_loss,
        "Zhou et al. 2021, arXiv:2106.03110",
        upper=(1.5**0.9 - 0.5**0.9) / 0.9,
    ),
    _row(
        js_label_noise_loss, "Englesson and Azizpour 2021, arXiv:2105.04522", upper=2.0
    ),
)
