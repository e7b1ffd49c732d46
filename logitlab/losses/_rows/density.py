"""Catalogue rows of ``logitlab.losses.density``."""

import functools

import jax
import jax.numpy as jnp

from logitlab.losses._rows import Row
from logitlab.losses.density import (
    ardae_loss,
    contractive_reconstruction_loss,
    denoising_reconstruction_loss,
    denoising_score_matching_loss,
    implicit_score_matching_loss,
    meco_loss,
    nce_loss,
    noprop_block_loss,
    sliced_score_matching_loss,
    x0_regression_loss,
)

_SOURCE = (
    "Learning Unnormalized Statistical Models via Compositional Optimization, "
    "arXiv:2306.07485"
)


def _samples(key, shape, dtype):
    data, noise = shape, (shape[0] + 1, *shape[1:])
    keys = jax.random.split(key, 4)
    return tuple(
        jax.random.normal(key, size, dtype)
        for key, size in zip(keys, (data, noise, data, noise), strict=True)
    )


def _noise_samples(key, shape, dtype):
    data, noise, _, logq = _samples(key, shape, dtype)
    return data, noise, logq, jnp.zeros((), dtype)


def _features(many):
    def make(key, shape, dtype):
        return tuple(3 * jax.random.normal(key, (many, *shape), dtype))

    return make


def _of_inputs(loss, sign):
    """A loss whose first argument is a model, of a plain one: a function of inputs."""

    def model(x):
        return sign * x + jnp.sin(x) / 2

    @functools.wraps(loss)
    def of_inputs(*arrays, **hyper):
        return loss(model, *arrays, **hyper)

    return of_inputs


_VALUES = dict(
    kind="example",
    shift_invariant=False,
    convex=True,
    where=False,
)
_MODELS = dict(
    kind="example",
    shift_invariant=False,
    where=False,
    shape=(4, 2, 3),
    cost="it takes derivatives of a model in its inputs",
)
_OF_VALUES = "Of the model's values, or of the model; they stand in place of logits."
_OF_MODEL = "Of a model and its inputs; this row describes that of ``-x + sin(x) / 2``."
_RECONSTRUCTION = (
    "Of a model and its inputs; this row describes that of ``x + sin(x) / 2``."
)
_AUTOENCODERS = "Alain and Bengio 2014, arXiv:1211.4246"

ROWS = (
    Row(
        nce_loss,
        "batch",
        _samples,
        "Gutmann and Hyvarinen 2010; " + _SOURCE,
        definition="paper",
        hyper={"log_z": 0.0},
        shift_invariant=False,
        convex=False,
        where=False,
        shape=(6,),
        note="The logits are log-densities; it takes ``mask`` and ``noise_mask``.",
    ),
    Row(
        meco_loss,
        "batch",
        _noise_samples,
        _SOURCE,
        definition="inferred",
        shift_invariant=False,
        lower=None,
        where=False,
        shape=(6,),
        surrogate="the importance weights carry no gradient",
    ),
    Row(
        denoising_score_matching_loss,
        make=_features(3),
        source="Vincent 2011; Song and Ermon 2019, arXiv:1907.05600",
        definition="paper",
        hyper={"sigma": 0.5},
        note=_OF_VALUES,
        **_VALUES,
    ),
    Row(
        ardae_loss,
        make=_features(3),
        source="Noise2Score, Kim and Ye 2021, arXiv:2106.07009; AR-DAE, Lim et al. "
        "2020, arXiv:2006.05164",
        definition="code",
        hyper={"sigma": 0.5},
        note=_OF_VALUES,
        **_VALUES,
    ),
    Row(
        _of_inputs(implicit_score_matching_loss, -1),
        make=_features(1),
        source="Hyvarinen 2005",
        definition="paper",
        lower=None,
        note=_OF_MODEL,
        **_MODELS,
    ),
    Row(
        _of_inputs(sliced_score_matching_loss, -1),
        make=_features(2),
        source="Song et al. 2019, arXiv:1905.07088",
        definition="paper",
        lower=None,
        note=_OF_MODEL,
        **_MODELS,
    ),
    Row(
        x0_regression_loss,
        make=_features(2),
        source="Han et al. 2024, arXiv:2401.15604",
        definition="inferred",
        note="The arrays hold features in place of logits.",
        **_VALUES,
    ),
    Row(
        denoising_reconstruction_loss,
        make=_features(3),
        source=_AUTOENCODERS,
        definition="paper",
        hyper={"sigma": 0.5},
        note=_OF_VALUES,
        **_VALUES,
    ),
    Row(
        _of_inputs(contractive_reconstruction_loss, 1),
        make=_features(1),
        source=_AUTOENCODERS,
        definition="paper",
        hyper={"sigma": 0.5},
        note=_RECONSTRUCTION,
        **_MODELS,
    ),
    Row(
        noprop_block_loss,
        make=_features(2),
        source="NoProp, Li, Teh and Pascanu 2025, arXiv:2503.24322",
        definition="paper",
        hyper={"snr_diff": 0.5, "steps": 10},
        note="The arrays hold embeddings in place of logits.",
        **_VALUES,
    ),
)
