"""Losses derived from the logic of a preference structure."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import _pairs as pairs
from logitlab.losses.preference import family, margins, reference_free
from logitlab.numerics import _special, arguments
from logitlab.theory.preference_logic import (
    DerivedLoss,
    PreferenceStructure,
    semantic_preference_ratio,
)

__all__ = ["dpa_loss"]


LINKS = ("logistic", "ipo", "slic", "rrhf")


def dpa_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *,
    name: str,
    beta: ArrayLike = 1.0,
    link: str = "logistic",
    margin: ArrayLike = 0.0,
    ref: tuple[ArrayLike, ArrayLike] | None = None,
) -> jax.Array:
    r"""A preference loss from its symbolic form, by its name in the catalogue.

    Use it when you want a loss by its symbolic name.

    .. math:: \ell = f(\rho), \quad f(\rho) = \mathrm{sp}(-\beta\rho), \;
        \bigl(\rho - \tfrac{1}{2\beta}\bigr)^2, \; \max(0, \beta - \rho), \;
        \max(0, -\rho)

    for the links ``logistic``, ``ipo``, ``slic`` and ``rrhf``, with :math:`\rho` from
    ``semantic_preference_ratio`` of the policy, less that of the reference, less the
    constant margin :math:`\gamma / \beta`. The names are those of
    ``preference.CATALOGUE``: CE, CEUnl, CPO, DPO, ORPO, unCPO and cCPO (whose worlds
    are inferred).

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers; means over tokens for all
        names but CPO and DPO, which know no 1 - p.
      rejected_logps: the same of the rejected ones.
      name: which structure.
      beta: positive.
      link: which f.
      margin: gamma; with CPO and means, SimPO's.
      ref: both log-probabilities under a reference, without gradient.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, a name is not known, DPO has no reference, or
        ``beta`` is not positive.

    Numerics: relative error below 1e-5 off the zeros of rho, where logarithms cancel,
      for log-ratios :math:`\beta\rho` up to 80.

    Source: Richardson et al. 2024, arXiv:2412.17696.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dpa_loss
    >>> p, q = jnp.log(jnp.float32([0.5])), jnp.log(jnp.float32([0.5]))
    >>> dpa_loss(p, q, name="ORPO")
    Array([0.6931472], dtype=float32)
    """
    if name not in CATALOGUE:
        raise ValueError(f"name is {name!r}, expected one of {list(CATALOGUE)}")
    if link not in LINKS:
        raise ValueError(f"link is {link!r}, expected one of {list(LINKS)}")
    if CATALOGUE[name].reference and ref is None:
        raise ValueError(f"ref is None, but {name} needs a reference")
    arguments.positive(beta=beta)
    numerator, denominator = CATALOGUE[name].worlds
    ratio = functools.partial(
        semantic_preference_ratio, numerator=numerator, denominator=denominator
    )
    rho = ratio(chosen_logps, rejected_logps)
    if ref is not None:
        logps = pairs.referenced(chosen_logps, rejected_logps, *ref)
        rho = rho - jax.lax.stop_gradient(ratio(*logps[2:]))
    beta = jnp.asarray(beta, rho.dtype)
    rho = rho - arguments.hyper("margin", margin, rho.dtype) / beta
    if link == "ipo":
        return pairs.squared(rho, beta)
    if link == "slic":
        return jax.nn.relu(beta - rho)
    if link == "rrhf":
        return jax.nn.relu(-rho)
    return pairs.logistic(beta * rho)


def _likelihood(chosen, rejected, *, beta):
    del rejected, beta
    return -chosen


def _unlikelihood(chosen, rejected, *, beta):
    del beta
    return -chosen - _special.log_complement(rejected)


def _ipo(chosen, rejected, *, beta):
    logps = chosen, rejected, jnp.zeros_like(chosen), jnp.zeros_like(rejected)
    return margins.ipo_loss(*logps, beta=beta, average_log_prob=False)


def _slic(chosen, rejected, *, beta):
    return reference_free.slic_hf_loss(chosen, rejected, margin=beta)


def _rrhf(chosen, rejected, *, beta):
    del beta
    return reference_free.rrhf_loss(chosen, rejected)


def _odds_ratio(chosen, rejected, *, beta):
    # ORPO's beta is a weight outside.
    return reference_free.orpo_odds_ratio_loss(chosen, rejected, beta=beta) / beta


_IMPLIES = (True, True, False, True)  # L implies W


_EITHER = (True, True, True, False)


_CPO: dict[str, Any] = dict(
    preference=_IMPLIES, constraint=_EITHER, additive=(True, False, False, False)
)


CATALOGUE = {
    "CE": PreferenceStructure(
        "W",
        (True, True, False, False),
        derived=(DerivedLoss(_likelihood, options={"beta": 1.0}),),
    ),
    "CEUnl": PreferenceStructure(
        "W and not L",
        (False, True, False, False),
        derived=(DerivedLoss(_unlikelihood, options={"beta": 1.0}),),
    ),
    "CPO": PreferenceStructure(
        "L implies W, where W or L, and both counts on both sides",
        **_CPO,
        derived=(
            DerivedLoss(reference_free.cpo_loss),
            DerivedLoss(_ipo, "ipo"),
            DerivedLoss(
                functools.partial(reference_free.simpo_loss, margin=0.7),
                options={"margin": 0.7},
            ),
            DerivedLoss(_slic, "slic"),
            DerivedLoss(_rrhf, "rrhf"),
        ),
    ),
    "DPO": PreferenceStructure(
        "the policy's W and the reference's L against the policy's L and the "
        "reference's W",
        **_CPO,
        reference=True,
        derived=(
            DerivedLoss(family.dpo_loss, reference=True),
            DerivedLoss(
                functools.partial(margins.ipo_loss, average_log_prob=False),
                "ipo",
                reference=True,
            ),
        ),
    ),
    "ORPO": PreferenceStructure(
        "L implies W, where either W or L",
        _IMPLIES,
        (False, True, True, False),
        derived=(DerivedLoss(_odds_ratio, options={"beta": 1.0}),),
    ),
    "unCPO": PreferenceStructure("L implies W", _IMPLIES),
    "cCPO": PreferenceStructure(
        "L implies W, where W or L", _IMPLIES, _EITHER, inferred=True
    ),
}
