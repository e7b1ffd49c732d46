"""Log-ratios of two softmaxes, exact where both are sure and where they agree."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from logitlab import numerics
from logitlab.losses.distillation._pairs import move, scores, top_score

__all__ = ["exactly", "log_ratio"]


def log_ratio(a, b, temperature, anchored=False):
    """Probabilities p of a and q of b, and what ``_ratio`` says of them."""
    (e, total), (f, other) = (
        numerics.exponentials(scores(z, temperature)) for z in (a, b)
    )
    return e / total, f / other, *_ratio(a, b, temperature, anchored)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _ratio(a, b, temperature, anchored):
    """``log(q / p)``; that from a reference on, and how much less it is there.

    The reference is the top of both, or for ``anchored`` that of p in both: where p has
    a lone top the second result is exactly 0 there.
    """
    x, y = scores(a, temperature), scores(b, temperature)
    ours, theirs = _log_total(x), _log_total(y)
    top, place = top_score(a), top_score(b)
    sure, also = numerics.is_lead(x, ours), numerics.is_lead(y, theirs)
    drift = theirs - ours
    if anchored:
        # Of classes up to 0.35 below the top of p the one with the largest b: a lone
        # top is found in logits rounded differently for its row's maximum (`is_lead`),
        # and otherwise any reference will do. A masked maximum is faster than argmax.
        own = jnp.max(jnp.where(x > -0.35, b, -jnp.inf), -1, keepdims=True)
        own = jnp.where(own > -jnp.inf, own, place)
        behind = jnp.maximum(place - own, 0) / temperature
        # The top of p is that of q too, up to rounding, if it is a lead there.
        agree = numerics.is_lead(-behind, jnp.maximum(ours, theirs))
        drift, place = drift + jnp.where(agree, 0, behind), own
        also = sure
    low = jnp.finfo(a.dtype).min / 1e4  # stands for -inf, for differences are finite
    up, up_lost = exactly(jnp.maximum(b, low), place)
    down, down_lost = exactly(jnp.maximum(a, low), top)
    up, up_lost = jnp.where(also, 0, up), jnp.where(also, 0, up_lost)
    down, down_lost = jnp.where(sure, 0, down), jnp.where(sure, 0, down_lost)
    gap = ((up - down) + (up_lost - down_lost)) / temperature
    # KL(p || q) is drift less the mean gap. Below what the logs of sums round off, the
    # mean stands for drift: then the error of either, squared, is nothing to the KL.
    e, total = numerics.exponentials(x)
    mean = jnp.sum(e * gap, -1, keepdims=True) / total
    rounding = 16 * jnp.finfo(x.dtype).eps * jnp.minimum(ours, 1)
    drift = jnp.where(jnp.abs(mean - drift) < rounding, mean, drift)
    # Far from the reference the logs, which may be small again, have more digits.
    log_p = numerics.below_top(x, 0, ours) - ours
    log_q = numerics.below_top(y, 0, theirs) - theirs
    far = jnp.where(x > -jnp.inf, log_q - log_p, gap)
    return jnp.where(jnp.abs(gap) < 4, gap - drift, far), gap, drift


def _ratio_jvp(anchored, primals, tangents):
    a, b, temperature = primals
    da, db, dt = tangents
    along = 0
    for z, dz, sign in ((a, da, -1), (b, db, 1)):
        x = scores(z, temperature)
        dx = move(x, temperature, dz, dt)
        along += sign * jax.jvp(numerics.log_softmax, (x,), (dx,))[1]
    # Of a lone top its own; else any, for only gap - drift has a meaning.
    near = scores(a, temperature) > -0.35
    at_top = jnp.sum(jnp.where(near, along, 0), -1, keepdims=True)
    at_top /= jnp.sum(near, -1, keepdims=True, dtype=at_top.dtype)
    return _ratio(*primals, anchored), (along, along - at_top, -at_top)


_ratio.defjvp(_ratio_jvp)  # exact: by the logs of both, each with its lone top


def _log_total(x):
    return numerics.log_total(*numerics.exponentials(x))


def exactly(z, top):
    """A difference and its rounding error (Knuth)."""
    d = z - top
    back = z - d
    return d, (z - (d + back)) + (back - top)
