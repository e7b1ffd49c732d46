"""Log-ratios of two softmaxes, exact where both are sure and where they agree."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from logitlab import numerics
from logitlab.losses.distillation._pairs import hidden, move, scores, top_score

__all__ = ["exactly", "log_probs", "log_ratio", "log_sum"]


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
    # b - a with the digits that it rounds off, less the same at the tops of both.
    ahead = exactly(_finite(b), _finite(a))
    both = jnp.where(sure & also, 0, _less(ahead, exactly(place, top)) / temperature)
    gap, behind = both, 0
    if anchored:
        # Of classes up to 0.35 below the top of p the one with the largest b: a lone
        # top is found in logits rounded differently for its row's maximum (`is_lead`),
        # and otherwise any reference will do. A masked maximum is faster than argmax.
        own = jnp.max(jnp.where(x > -0.35, b, -jnp.inf), -1, keepdims=True)
        own = jnp.where(own > -jnp.inf, own, place)
        behind = jnp.maximum(place - own, 0) / temperature
        # The top of p is that of q too, up to rounding, if it is a lead there.
        agree = numerics.is_lead(-behind, jnp.maximum(ours, theirs))
        own, behind = jnp.where(agree, place, own), jnp.where(agree, 0, behind)
        gap = jnp.where(sure, 0, _less(ahead, exactly(own, top)) / temperature)
    # KL(p || q) is drift less the mean gap. Below what the logs of sums round off, the
    # mean stands for drift: then the error of either, squared, is nothing to the KL.
    drift = theirs - ours
    e, total = numerics.exponentials(x)
    mean = jnp.sum(e * gap, -1, keepdims=True) / total - behind
    rounding = 16 * jnp.finfo(x.dtype).eps * jnp.minimum(ours, 1)
    drift = jnp.where(jnp.abs(mean - drift) < rounding, mean, drift)
    # From the tops of both: where p and q agree, their log-ratio has its digits.
    return both - drift + hidden(b), gap, drift + behind


def _finite(z):
    return jnp.maximum(z, jnp.finfo(z.dtype).min / 1e4)  # differences of which fit


def _less(ahead, reference):
    """The difference of two differences, each with its rounding error."""
    (d, lost), (own, off) = ahead, reference
    return (d - own) + (lost - off)


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


@jax.custom_jvp
def log_probs(z, temperature):
    """Log-probabilities of a softmax, of the scores whose top is known to be 0."""
    x = scores(z, temperature)
    log_total = _log_total(x)
    return numerics.below_top(x, 0, log_total) - log_total


@log_probs.defjvp  # exact: that of the function for any scores
def _log_probs_jvp(primals, tangents):
    x = scores(*primals)
    along = jax.jvp(numerics.log_softmax, (x,), (move(x, primals[1], *tangents),))[1]
    return log_probs(*primals), along


@jax.custom_jvp
def log_sum(z, temperature):
    """Log of the sum of the exponentials of the scores, 0 where there are none."""
    return _log_total(scores(z, temperature))[..., 0]


@log_sum.defjvp  # exact: by the probabilities, whose own slopes are exact
def _log_sum_jvp(primals, tangents):
    x = scores(*primals)
    e, total = numerics.exponentials(x)
    along = jnp.sum(e / total * move(x, primals[1], *tangents), -1)
    return log_sum(*primals), along


def _log_total(x):
    return numerics.log_total(*numerics.exponentials(x))


def exactly(z, top):
    """A difference and its rounding error (Knuth)."""
    d = z - top
    back = z - d
    return d, (z - (d + back)) + (back - top)
