"""The logic of preference losses: ratios of weighted counts of possible worlds."""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import draws, family, margins, pairs, reference_free

__all__ = [
    "DerivedLoss",
    "PreferenceStructure",
    "dpa_loss",
    "preference_structure_worlds",
    "semantic_preference_ratio",
]

NOT_LOSSES = ("preference_structure_worlds", "semantic_preference_ratio")

WORLDS = ("TT", "TF", "FT", "FF")  # is the chosen answer valid, is the rejected one?
LINKS = ("logistic", "ipo", "slic", "rrhf")


class DerivedLoss(NamedTuple):
    """A loss that a structure with a link is: with ``options`` for ``dpa_loss``.

    ``loss`` takes the log-probabilities of both answers, and if ``reference`` those
    under the reference, sums or means as the loss itself wants them.
    """

    loss: Callable[..., jax.Array]
    link: str = "logistic"
    reference: bool = False
    options: Mapping[str, Any] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class PreferenceStructure:
    """One row of the catalogue: what is preferred, and which worlds are counted.

    Attributes:
      formula: the preference in words of logic, W for a valid chosen and L for a valid
        rejected answer.
      preference: P, whether it holds in the worlds TT, TF, FT, FF.
      constraint: P_C, the worlds that count at all.
      additive: P_A, the worlds that count on both sides.
      reference: the structure is one of a policy beside its reference.
      derived: losses that it is.
      inferred: the worlds are our reading of the paper.
    """

    formula: str
    preference: Sequence[bool]
    constraint: Sequence[bool] = (True, True, True, True)
    additive: Sequence[bool] = (False, False, False, False)
    reference: bool = False
    derived: tuple[DerivedLoss, ...] = ()
    inferred: bool = False

    @property
    def worlds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those of the numerator and those of the denominator."""
        return preference_structure_worlds(
            self.preference, self.constraint, self.additive
        )


def preference_structure_worlds(
    preference: Sequence[bool], constraint: Sequence[bool], additive: Sequence[bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    r"""Worlds of the numerator and of the denominator of a preference structure.

    .. math:: (P \lor P_A) \land P_C, \quad (\lnot P \lor P_A) \land P_C

    Args:
      preference: P, whether it holds in the worlds TT, TF, FT and FF, where the first
        letter says if the chosen answer is valid and the second if the rejected one is.
      constraint: P_C, whether a world counts at all.
      additive: P_A, whether it counts on both sides.

    Returns:
      Two tuples of names.

    Raises:
      ValueError: not four truth values, or one of the two sides is empty.

    Source: Richardson et al. 2024, arXiv:2412.17696.

    >>> no, yes = (False,) * 4, (True,) * 4
    >>> preference_structure_worlds((True, True, False, True), yes, no)
    (('TT', 'TF', 'FF'), ('FT',))
    """
    given = dict(preference=preference, constraint=constraint, additive=additive)
    for name, values in given.items():
        if len(values) != 4:
            raise ValueError(f"{name} is {values}, expected four truth values")
    rows = list(zip(WORLDS, preference, constraint, additive, strict=True))
    numerator = tuple(w for w, p, c, a in rows if (p or a) and c)
    denominator = tuple(w for w, p, c, a in rows if (not p or a) and c)
    _check_worlds(numerator, denominator)
    return numerator, denominator


def semantic_preference_ratio(
    logp_w: ArrayLike,
    logp_l: ArrayLike,
    *,
    numerator: Sequence[str] = ("TT", "TF"),
    denominator: Sequence[str] = ("TT", "FT"),
) -> jax.Array:
    r"""Log-ratio of how likely two sets of worlds are.

    .. math:: \rho = \log \sum_{num} P(world) - \log \sum_{den} P(world)

    where chosen and rejected answers are valid independently, with the probabilities
    that the model gives them.

    Shapes: logp_w [...], logp_l [...] -> [...]

    Args:
      logp_w: log-probabilities of the chosen answers; means over tokens wherever 1 - p
        plays a part, for a product of many is as good as 0.
      logp_l: the same of the rejected ones.
      numerator: worlds, of ``TT``, ``TF``, ``FT`` and ``FF``.
      denominator: the same.

    Returns:
      Nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a side is empty or has another name.

    Numerics: all in logarithms. In :math:`1 - p` a log-probability above -1e-7 counts
      as that; none is above 0.

    Source: Richardson et al. 2024, arXiv:2412.17696.

    >>> p, q = jnp.log(jnp.float32([0.3])), jnp.log(jnp.float32([0.2]))
    >>> print(semantic_preference_ratio(p, q).round(6))
    [0.405465]
    """
    _check_worlds(numerator, denominator)
    logps = pairs.logps_like(logp_w=logp_w, logp_l=logp_l)
    log_p, log_q = (jnp.where(a > 0, 0, a) for a in logps)
    log_not_p, log_not_q = pairs.log1mexp(log_p), pairs.log1mexp(log_q)
    one = {
        "TT": log_p + log_q,
        "TF": log_p + log_not_q,
        "FT": log_not_p + log_q,
        "FF": log_not_p + log_not_q,
    }
    two = {
        ("TT", "TF"): log_p,
        ("TT", "FT"): log_q,
        ("TT", "FF"): jnp.logaddexp(one["TT"], one["FF"]),
        ("TF", "FT"): jnp.logaddexp(one["TF"], one["FT"]),
        ("TF", "FF"): log_not_q,
        ("FT", "FF"): log_not_p,
    }

    def log_weight(worlds):
        worlds = tuple(w for w in WORLDS if w in worlds)
        left = [w for w in WORLDS if w not in worlds]
        if len(worlds) == 1:
            return one[worlds[0]]
        if len(worlds) == 2:
            return two[worlds]
        return pairs.log1mexp(one[left[0]]) if left else jnp.zeros_like(log_p)

    return log_weight(numerator) - log_weight(denominator)


def dpa_loss(
    logp_w: ArrayLike,
    logp_l: ArrayLike,
    *,
    name: str,
    beta: ArrayLike = 1.0,
    link: str = "logistic",
    gamma: ArrayLike = 0.0,
    ref: tuple[ArrayLike, ArrayLike] | None = None,
) -> jax.Array:
    r"""A preference loss from its symbolic form, by its name in the catalogue.

    .. math:: \ell = f(\rho), \quad f(\rho) = \mathrm{sp}(-\beta\rho), \;
        \bigl(\rho - \tfrac{1}{2\beta}\bigr)^2, \; \max(0, \beta - \rho), \;
        \max(0, -\rho)

    for the links ``logistic``, ``ipo``, ``slic`` and ``rrhf``, with :math:`\rho` from
    ``semantic_preference_ratio`` of the policy, less that of the reference, less the
    constant margin :math:`\gamma / \beta`. The names are those of
    ``preference.CATALOGUE``: CE, CEUnl, CPO, DPO, ORPO, unCPO and cCPO (whose worlds
    are inferred).

    Shapes: logp_w [...], logp_l [...] -> [...]

    Args:
      logp_w: log-probabilities of the chosen answers; means over tokens for all names
        but CPO and DPO, which know no 1 - p.
      logp_l: the same of the rejected ones.
      name: which structure.
      beta: positive.
      link: which f.
      gamma: the margin; with CPO and means, SimPO's.
      ref: both log-probabilities under a reference, without gradient.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, a name is not known, DPO has no reference, or
        ``beta`` is not positive.

    Numerics: relative error below 1e-5 off the zeros of rho, where logarithms cancel.

    Source: Richardson et al. 2024, arXiv:2412.17696.

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
    pairs.positive(beta=beta)
    numerator, denominator = CATALOGUE[name].worlds
    ratio = functools.partial(
        semantic_preference_ratio, numerator=numerator, denominator=denominator
    )
    rho = ratio(logp_w, logp_l)
    if ref is not None:
        logps = pairs.referenced(logp_w, logp_l, *ref)
        rho = rho - jax.lax.stop_gradient(ratio(*logps[2:]))
    beta = jnp.asarray(beta, rho.dtype)
    rho = rho - jnp.asarray(gamma, rho.dtype) / beta
    if link == "ipo":
        return pairs.squared(rho / 4, beta)
    if link == "slic":
        return jax.nn.relu(beta - rho)
    if link == "rrhf":
        return jax.nn.relu(-rho)
    return pairs.logistic(beta * rho)


def _check_worlds(numerator, denominator):
    for name, worlds in (("numerator", numerator), ("denominator", denominator)):
        if not worlds or not set(worlds) <= set(WORLDS):
            raise ValueError(
                f"{name} is {tuple(worlds)}, expected some of {', '.join(WORLDS)}"
            )


def _likelihood(chosen, rejected, *, beta):
    del rejected, beta
    return -chosen


def _unlikelihood(chosen, rejected, *, beta):
    del beta
    return -chosen - pairs.log1mexp(rejected)


def _slic(chosen, rejected, *, beta):
    return reference_free.slic_hf_loss(chosen, rejected, delta=beta)


def _rrhf(chosen, rejected, *, beta):
    del beta
    return reference_free.rrhf_loss(chosen, rejected)


def _odds_ratio(chosen, rejected, *, beta):
    # ORPO's beta is a weight outside.
    return reference_free.orpo_odds_ratio_loss(chosen, rejected, beta=beta) / beta


_IMPLIES = (True, True, False, True)  # L implies W
_EITHER = (True, True, True, False)
_CPO = dict(
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
            DerivedLoss(
                functools.partial(reference_free.cpo_loss, loss_type="ipo"), "ipo"
            ),
            DerivedLoss(
                functools.partial(reference_free.simpo_loss, gamma=0.7),
                options={"gamma": 0.7},
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


def _log_probs(key, shape, dtype):
    return tuple(-abs(a) - 0.1 for a in draws.without_reference(key, shape, dtype))


ROWS = (
    draws.pair_row(
        dpa_loss,
        "Richardson et al. 2024, arXiv:2412.17696",
        _log_probs,
        hyper={"name": "unCPO"},
        shift_invariant=False,
    ),
)
