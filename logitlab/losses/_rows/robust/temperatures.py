"""Catalogue rows of ``logitlab.losses.robust.temperatures``."""

import jax

from logitlab.losses._rows import Row, class_labels
from logitlab.losses.robust.temperatures import (
    aldr_kl_loss,
    ldr_kl_loss,
    tempnet_robust_loss,
)


def _with_temperatures(key, shape, dtype):
    logits, labels = class_labels(key, shape, dtype)
    spread = jax.random.uniform(jax.random.fold_in(key, 1), shape[:-1])
    return logits, labels, (0.5 + spread).astype(dtype)


ROWS = (
    Row(
        ldr_kl_loss,
        "example",
        class_labels,
        "Zhu, Ying and Yang 2023, arXiv:2112.14869",
        definition="code",
        hyper=dict(lam=0.5, margin=0.1),
        golden="ldr_kl",
        convex=True,
        lower=None,
        calibrated=True,
        note="The lower bound is ``-lam * log(C)``.",
        cost="differences from the largest logit are kept for the gradient",
    ),
    Row(
        aldr_kl_loss,
        "example",
        _with_temperatures,
        "Zhu, Ying and Yang 2023, arXiv:2112.14869",
        definition="code",
        golden="aldr_kl",
        shift_invariant=False,
        lower=None,
        smooth=False,
        surrogate="the temperature is updated from the logits without a gradient",
        note="Also returns the updated temperatures.",
        cost="the update of the temperature needs each example's entropy first",
    ),
    Row(
        tempnet_robust_loss,
        "example",
        _with_temperatures,
        "Qiu et al. 2024, arXiv:2404.04575",
        definition="code",
        hyper=dict(rho=1.0),
        golden="tempnet_robust_loss",
        convex=True,
        lower=None,
        cost="differences from the largest logit are kept for the gradient",
    ),
)
