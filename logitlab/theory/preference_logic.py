"""The logic of preference losses: ratios of weighted counts of possible worlds."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics import _special, arguments

__all__ = [
    "DerivedLoss",
    "PreferenceStructure",
    "preference_structure_worlds",
    "semantic_preference_ratio",
]


WORLDS = ("TT", "TF", "FT", "FF")  # is the chosen answer valid, is the rejected one?


class DerivedLoss(NamedTuple):
    """A known loss as a preference structure and a link, for ``dpa_loss``.

    ``loss`` takes the log-probabilities of both answers, and if ``reference`` those
    under the reference, sums or means as the loss itself wants them.
    """

    loss: Callable[..., jax.Array]
    link: str = "logistic"
    reference: bool = False
    options: Mapping[str, Any] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class PreferenceStructure:
    """Preference structure of a loss: its formulas, as sets of possible worlds.

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

    >>> from logitlab.theory import preference_structure_worlds
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
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *,
    numerator: Sequence[str] = ("TT", "TF"),
    denominator: Sequence[str] = ("TT", "FT"),
) -> jax.Array:
    r"""Log-ratio of the probabilities of two sets of worlds.

    .. math:: \rho = \log \sum_{num} P(world) - \log \sum_{den} P(world)

    where chosen and rejected answers are valid independently, with the probabilities
    that the model gives them.

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers; means over tokens wherever
        1 - p plays a part, for a product of many is as good as 0.
      rejected_logps: the same of the rejected ones.
      numerator: worlds, of ``TT``, ``TF``, ``FT`` and ``FF``.
      denominator: the same.

    Returns:
      Nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a side is empty or has another name.

    Numerics: all in logarithms. In :math:`1 - p` a log-probability above -1.5e-36
      counts as that; none is above 0.

    Source: Richardson et al. 2024, arXiv:2412.17696.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import semantic_preference_ratio
    >>> p, q = jnp.log(jnp.float32([0.3])), jnp.log(jnp.float32([0.2]))
    >>> print(semantic_preference_ratio(p, q).round(6))
    [0.405465]
    """
    _check_worlds(numerator, denominator)
    logps = arguments.logps_like(
        chosen_logps=chosen_logps, rejected_logps=rejected_logps
    )
    log_p, log_q = (jnp.where(a > 0, 0, a) for a in logps)
    log_not_p, log_not_q = (
        _special.log_complement(log_p),
        _special.log_complement(log_q),
    )
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
        return _special.log_complement(one[left[0]]) if left else jnp.zeros_like(log_p)

    return log_weight(numerator) - log_weight(denominator)


def _check_worlds(numerator, denominator):
    for name, worlds in (("numerator", numerator), ("denominator", denominator)):
        if not worlds or not set(worlds) <= set(WORLDS):
            raise ValueError(
                f"{name} is {tuple(worlds)}, expected some of {', '.join(WORLDS)}"
            )
