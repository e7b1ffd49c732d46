"""One class against others: log-odds, and divergences of yes and no."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._log_mix import cumulants, log_mix
from logitlab.losses.distillation._log_ratios import exactly, log_ratio, log_sum
from logitlab.losses.distillation._pairs import is_symbolic_zero, top_score
from logitlab.numerics._special import polynomial

__all__ = ["bernoulli_kl", "log_odds", "odds_gap"]


def bernoulli_kl(a: jax.Array, b: jax.Array, gap: jax.Array | None = None) -> jax.Array:
    """``kl`` of Bernoulli distributions by their logits, elementwise.

    Shapes: a [...], b [...] -> [...]

    Args:
      a: logits of the first.
      b: logits of the second.
      gap: ``b - a``, if it is known with more digits.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._odds import bernoulli_kl
    >>> print(f"{bernoulli_kl(jnp.float32(0), jnp.float32(40)):.4f}")
    19.3069
    """
    if gap is None:
        return _bernoulli_kl(a, b, b - a)
    move = b - a  # adds 0: the digits are those of `gap`, the slopes those of b - a
    move = jnp.where(jnp.isfinite(move), move, 0)
    gap = jax.lax.stop_gradient(gap) + (move - jax.lax.stop_gradient(move))
    return _bernoulli_kl(a, b, gap)


@jax.custom_jvp
def _bernoulli_kl(a, b, gap):
    p, rest, gap, here = _rarer(a, b, gap)
    near = jnp.abs(gap) < 0.25
    small = jnp.where(near, gap, 0)
    series = [k / math.factorial(n + 2) for n, k in enumerate(cumulants(rest, p))]
    log, _ = log_mix(gap, p, rest, here)
    far = log - p * jnp.where(p > 0, gap, 0)
    return jnp.where(near, small * small * polynomial(small, series), far)


def _bernoulli_kl_jvp(primals, tangents):
    a, _, gap = primals
    along = jnp.zeros_like(a)
    p, rest, ahead, here = _rarer(*primals)
    if not is_symbolic_zero(tangents[0]):
        slope = p * rest
        along -= jnp.where(slope > 0, slope * gap, 0) * tangents[0]
    if not is_symbolic_zero(tangents[1]):
        near = jnp.abs(ahead) < 1
        q = jax.nn.sigmoid(here)
        # The change of the odds by that of the log-odds: q = p exp(gap) / mix.
        close = p * (1 - q) * numerics.small_expm1(jnp.where(near, ahead, 0))
        rise = jnp.where(near, close, q - p)
        along += jnp.where(a > 0, -rise, rise) * tangents[1]
    return _bernoulli_kl(*primals), along


_bernoulli_kl.defjvp(_bernoulli_kl_jvp, symbolic_zeros=True)  # exact near the teacher


def _rarer(a, b, gap):
    """Of the outcome that the first finds the rarer: its probability and the other's,
    the change of its log-odds, and what they become."""
    sign = jnp.where(a > 0, -1, 1).astype(a.dtype)
    p, rest = jax.nn.sigmoid(-jnp.abs(a)), jax.nn.sigmoid(jnp.abs(a))
    return p, rest, sign * gap, sign * b


def log_odds(own: jax.Array, others: jax.Array, temperature: ArrayLike) -> jax.Array:
    """Log-odds of one class against others.

    Shapes: own [...], others [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._odds import log_odds
    >>> log_odds(jnp.float32(3), jnp.float32([1, -jnp.inf]), 1.0)
    Array(2., dtype=float32)
    """
    shown = own > -jnp.inf
    top = _fixed_top(others)
    ahead = (jnp.where(shown, own, 0)[..., None] - top) / temperature
    odds = ahead[..., 0] - log_sum(others, temperature)
    odds = jnp.where(shown, odds, -jnp.inf)
    return jnp.where(jnp.max(others, -1) > -jnp.inf, odds, jnp.inf)


@jax.custom_jvp  # exact: stopped where `scores` stops it, see the rule
def _fixed_top(z):
    return top_score(z)


@_fixed_top.defjvp
def _fixed_top_jvp(primals, _):
    # In a scan that is differentiated twice JAX 0.10 takes the derivatives of bodies,
    # in which the top of `scores` moves: then this one moves too.
    top = _fixed_top(*primals)
    return top, jnp.zeros_like(top)


def odds_gap(
    own: tuple[jax.Array, jax.Array],
    others: tuple[jax.Array, jax.Array],
    temperature: jax.Array,
) -> jax.Array:
    """How much larger ``log_odds`` of the second are; a constant, exact near 0.

    Shapes: own [...], own [...], others [..., C], others [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._odds import odds_gap
    >>> own = jnp.float32(3), jnp.float32(3)
    >>> odds_gap(own, (jnp.zeros(1), -jnp.ones(1)), 1.0)
    Array(1., dtype=float32)
    """
    (mine, yours), (a, b) = jax.lax.stop_gradient((own, others))
    known = (mine > -jnp.inf) & (jnp.max(a, -1) > -jnp.inf)
    up, up_lost = exactly(
        jnp.where(yours > -jnp.inf, yours, 0)[..., None], top_score(b)
    )
    down, down_lost = exactly(jnp.where(known, mine, 0)[..., None], top_score(a))
    ahead = (up - down) + (up_lost - down_lost)
    p, q, u, _, drift = log_ratio(a, b, temperature)
    off = jnp.sum(numerics.rise(p, q, u), -1, keepdims=True)
    gap = (ahead / temperature - drift - off)[..., 0]
    return jnp.where(known, gap, jnp.where(mine > -jnp.inf, -jnp.inf, jnp.inf))
