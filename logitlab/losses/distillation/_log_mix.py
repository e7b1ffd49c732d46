"""Logs of mixtures, exact where shares are small and where almost nothing is mixed."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from logitlab import numerics
from logitlab.numerics._special import polynomial

__all__ = ["cumulants", "log_mix", "log_odds", "log_of"]


def cumulants(v: jax.Array, w: jax.Array) -> list[jax.Array]:
    """From the second on, those of a coin with probabilities v and w of 0 and 1.

    Derivatives at 0 of ``log(v + w exp(u))``, as many as its series needs for u up to
    0.25: polynomials in v w, those of odd order times v - w.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._log_mix import cumulants
    >>> cumulants(jnp.float32(0.5), jnp.float32(0.5))[:3]
    [Array(0.25, dtype=float32), Array(0., dtype=float32), Array(-0.125, dtype=float32)]
    """
    coefficients, found = [0, 1], []
    for n in range(2, 18 if jnp.result_type(v, w) == jnp.float64 else 8):
        odd = n % 2
        found.append(polynomial(v * w, coefficients) * (v - w if odd else 1))
        after = zip([*coefficients, 0], [0, *coefficients], strict=True)
        coefficients = [
            k * c - (4 * k - 2) * before if odd else k * c
            for k, (c, before) in enumerate(after)
        ]
    return found


def log_mix(
    gap: jax.Array, theirs: jax.Array, ours: jax.Array, here: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """``log(ours + theirs exp(gap))`` of shares that add to 1, and its exponential.

    Exact near 0 too. An exponential of more than e**78 (float32) may be any such.

    Args:
      gap: an exponent.
      theirs: the share that it is about.
      ours: the other one.
      here: ``log(theirs / ours) + gap``, which may be known with more digits.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._log_mix import log_mix
    >>> half = jnp.float32(0.5)
    >>> log_mix(jnp.float32(1e-9), half, half, jnp.float32(1e-9))[0]
    Array(5.e-10, dtype=float32)
    """
    near, most = jnp.abs(gap) < 1, theirs > ours
    size = jnp.where(most, gap, here)
    far = -0.9 * math.log(jnp.finfo(gap.dtype).tiny)  # a factor may take the rest
    size = jnp.where(ours == 0, size, jnp.maximum(size, -far))
    bounded = jnp.clip(size, -far, far)
    part = jnp.where(most, theirs, ours) * jnp.exp(bounded)
    small = theirs * numerics.small_expm1(jnp.where(near, gap, 0))
    mix = ours + part
    log = log_of(mix, jnp.where(near, small, part - theirs))
    return log + (size - bounded), mix


def log_odds(v: jax.Array, w: jax.Array) -> jax.Array:
    """Log of w / v.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._log_mix import log_odds
    >>> log_odds(jnp.float32(0.5), jnp.float32(0))
    Array(-inf, dtype=float32)
    """
    return jnp.log(w) - jnp.log(v)


def log_of(x: jax.Array, change: jax.Array) -> jax.Array:
    """``log(x)`` of ``1 + change``, each known with the digits that the other lacks.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._log_mix import log_of
    >>> log_of(jnp.float32(1), jnp.float32(1e-9))
    Array(1.e-09, dtype=float32)
    """
    near = jnp.abs(change) < 0.125
    small = jnp.where(near, change, 0)
    count = 18 if x.dtype == jnp.float64 else 8
    close = small * polynomial(small, [(-1) ** n / (n + 1) for n in range(count)])
    return jnp.where(near, close, jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny)))
