"""Gaps of policies from the equilibrium of a preference game."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import arguments
from logitlab.targets.teachers import _game

__all__ = ["duality_gap"]


def duality_gap(
    policy: ArrayLike, pref_matrix: ArrayLike, ref: ArrayLike, tau: ArrayLike
) -> jax.Array:
    r"""How much the best responses to a policy win in the KL-regularised game.

    .. math:: \max_p J(p, \pi) - \min_q J(\pi, q), \quad J(p, q) = p^\top P q
        - \tau \mathrm{KL}(p \| \pi_{ref}) + \tau \mathrm{KL}(q \| \pi_{ref})

    0 at the Nash policy only. Best responses are tilted references, in closed form.

    Shapes: policy [K], pref_matrix [K, K], ref [K] -> []

    Args:
      policy: probabilities of the answers.
      pref_matrix: P, the probability that the row's answer beats the column's.
      ref: probabilities of the answers under the reference, positive.
      tau: positive, the game's KL strength.

    Returns:
      A number, at least 0 up to rounding, float32 (float64 for float64 ``policy``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes disagree, or ``tau`` is not positive.

    Source: Zhang et al. 2024, arXiv:2407.00617.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import duality_gap
    >>> half = jnp.full(2, 0.5)
    >>> print(duality_gap(half, jnp.full((2, 2), 0.5), half, 0.1).round(6))
    0.0
    """
    arguments.positive(tau=tau)
    p, ref = arguments.logps_like(policy=policy, ref=ref)
    wins, tau = _game(pref_matrix, p), jnp.asarray(tau, p.dtype)
    log_ref = jnp.log(ref)
    best = numerics.logsumexp(log_ref + wins @ p / tau)
    worst = numerics.logsumexp(log_ref - p @ wins / tau)
    some = p > 0
    kl = jnp.sum(jnp.where(some, p * (jnp.log(jnp.where(some, p, 1)) - log_ref), 0))
    return tau * (best + worst + 2 * kl)
