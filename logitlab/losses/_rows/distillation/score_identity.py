"""Catalogue rows of ``logitlab.losses.distillation.score_identity``."""

import jax
import jax.numpy as jnp
import numpy as np

from logitlab.losses._rows import Row
from logitlab.losses.distillation.score_identity import (
    denoising_score_loss,
    sid_adversarial_loss,
    sid_discriminator_loss,
    sid_generator_loss,
)


def _noisy(key, shape, dtype):
    pair, noise = jax.random.split(key)
    sigma = jnp.exp(jax.random.normal(noise, shape[:1], dtype))
    return *(2 * jax.random.normal(pair, (2, *shape), dtype)), sigma


def _denoised(key, shape, dtype):
    return tuple(2 * jax.random.normal(key, (3, *shape), dtype))


def _one_array(key, shape, dtype):
    return (3 * jax.random.normal(key, shape, dtype),)


_ROW = dict(definition="code", where=False, shift_invariant=False)


_SIDA = "SiDA, Zhou et al. 2024, arXiv:2410.14919"


ROWS = (
    Row(
        sid_generator_loss,
        "elementwise",
        _denoised,
        "SiD, Zhou et al. 2024, arXiv:2404.04057",
        golden="sid",
        lower=None,
        surrogate="the denominator carries no gradient",
        note="The arrays hold pixels in place of logits.",
        **_ROW,
    ),
    Row(
        denoising_score_loss,
        "elementwise",
        _noisy,
        "SiD, Zhou et al. 2024, arXiv:2404.04057",
        golden="sid",
        surrogate="the generated samples carry no gradient",
        note="The arrays hold pixels in place of logits.",
        **_ROW,
    ),
    Row(
        sid_adversarial_loss,
        "elementwise",
        _one_array,
        _SIDA,
        upper=float(np.log1p(np.exp(10))),
        **_ROW,
    ),
    Row(
        sid_discriminator_loss,
        "elementwise",
        _noisy,
        _SIDA,
        convex=True,
        **_ROW,
    ),
)
