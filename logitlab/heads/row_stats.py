"""Rows of logits in parts: what each part shows, put together, and its gradient.

What has been seen of a row is kept as its top score and the sum of exponentials below
it: nothing small is added to something large, so that a confident row is as exact as in
:mod:`logitlab.numerics`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "LabelStats",
    "Seen",
    "finish",
    "finite_top",
    "merge",
    "nothing_seen",
    "seen_in",
    "slope_rule",
]

FAR = 1e4  # below the top; exponentials are 0 from there on in every dtype


class LabelStats(NamedTuple):
    """What most losses need of a row of logits; one number of each kind per token.

    Attributes:
      log_prob: log-probability of the label, in nats.
      logsumexp: log of the sum of exponentials over all visible classes.
      entropy: of the softmax, in nats.
      logit_sum: sum of the logits of all visible classes, each with its weight.
      nll_sum: the same sum of their negative log-probabilities, for label smoothing.
      classes: how many classes are visible; without gradient, as all that follows.
      label_weight: the label's class weight; 1 without such weights.
      argmax: the class of the largest logit, the first of equals.
    """

    log_prob: jax.Array
    logsumexp: jax.Array
    entropy: jax.Array
    logit_sum: jax.Array
    nll_sum: jax.Array
    classes: jax.Array
    label_weight: jax.Array
    argmax: jax.Array


class Seen(NamedTuple):
    """What has been seen of some rows: their top and all below it; [N] each.

    ``1 + rest`` is the sum of exponentials measured from the top; -1 of no class.
    ``moment`` is the sum of exponentials times their logarithms, ``depth`` the weighted
    sum of the logits measured from the top, ``mass`` the sum of the weights.
    """

    top: jax.Array
    rest: jax.Array
    moment: jax.Array
    depth: jax.Array
    mass: jax.Array
    classes: jax.Array
    score: jax.Array
    label_weight: jax.Array
    argmax: jax.Array


def nothing_seen(count: int, dtype: jnp.dtype) -> Seen:
    """Of rows that have shown no class yet."""
    zero = jnp.zeros(count, dtype)
    return Seen(zero - jnp.inf, zero - 1, *[zero] * 6, zero.astype(jnp.int32))


def seen_in(z: jax.Array, each: ArrayLike, mine: jax.Array, first: ArrayLike) -> Seen:
    """What some classes of all rows show.

    Args:
      z: logits [N, c], hidden ones at ``-inf``.
      each: weights of the classes, broadcastable.
      mine: where the class is the label, [N, c].
      first: number of the first class.
    """
    visible, top = z > -jnp.inf, jnp.max(z, -1)
    below = numerics.below(z, finite_top(top)[:, None])
    e = jnp.exp(below)
    ones = jnp.floor(e)  # the top and its equals; the rest is summed without them
    return Seen(
        top,
        jnp.sum(e - ones, -1) + (jnp.sum(ones, -1) - 1),
        jnp.sum(e * jnp.maximum(below, -FAR), -1),
        jnp.sum(jnp.where(visible, below, 0) * each, -1),
        jnp.sum(visible * each, -1, dtype=z.dtype),
        jnp.sum(visible, -1, dtype=z.dtype),
        jnp.sum(jnp.where(mine, z, 0), -1),
        jnp.sum(mine * each, -1, dtype=z.dtype),
        first + jnp.argmax(z, -1).astype(jnp.int32),
    )


def merge(
    parts: Sequence[Seen], top: jax.Array, axis_name: tuple[str, ...] = ()
) -> Seen:
    """Parts of the same rows, of all devices, as one; the lone ``top`` stays out."""

    def add_up(what):
        total = sum(map(what, parts))
        return jax.lax.psum(total, axis_name) if axis_name else total

    def scaled(part):
        shift = jnp.maximum(part.top - finite_top(top), -FAR)
        return jnp.exp(shift), shift, 1 + part.rest

    def rest(part):
        weight, _, total = scaled(part)
        return jnp.where(part.top == top, part.rest, weight * total)

    def moment(part):
        weight, shift, total = scaled(part)
        return weight * (part.moment + shift * total)

    def depth(part):
        some = part.top > -jnp.inf
        return jnp.where(some, part.depth + (part.top - finite_top(top)) * part.mass, 0)

    none = jnp.iinfo(jnp.int32).max
    first = [jnp.where(part.top == top, part.argmax, none) for part in parts]
    first = functools.reduce(jnp.minimum, first)
    return Seen(
        top,
        add_up(rest) + (add_up(lambda part: (part.top == top).astype(top.dtype)) - 1),
        add_up(moment),
        add_up(depth),
        add_up(lambda part: part.mass),
        add_up(lambda part: part.classes),
        add_up(lambda part: part.score),
        add_up(lambda part: part.label_weight),
        jax.lax.pmin(first, axis_name) if axis_name else first,
    )


def finish(seen: Seen) -> LabelStats:
    """The statistics of rows that were seen whole."""
    log_total, nll, mean = _summary(seen)
    some = seen.top > -jnp.inf
    return LabelStats(
        -nll,
        seen.top + log_total,
        jnp.where(some, log_total - mean, 0),
        seen.depth + seen.mass * finite_top(seen.top),
        jnp.where(some, seen.mass * log_total - seen.depth, 0),
        seen.classes,
        seen.label_weight,
        seen.argmax,
    )


def _summary(seen):
    """Log of the sum measured from the top, the label's loss, and the mean score."""
    some = seen.top > -jnp.inf
    log_total = jnp.log1p(seen.rest)
    nll = jnp.where(some, log_total - (seen.score - seen.top), 0)
    return log_total, nll, seen.moment / jnp.where(some, 1 + seen.rest, 1)


def slope_rule(slopes: Sequence[jax.Array | None], seen: Seen) -> Callable:
    """``(z, each, mine) -> slopes of z`` for any part of rows that were seen whole.

    With p a class's probability, w its weight, d its score below the top and T the mean
    of d, the slope of its logit is
    ``g_l ([label] - p) + g_lse p - g_H p (d - T) + g_S w + g_N (p sum(w) - w)``
    for slopes g of the five statistics; ``None`` is zero. The label's ``1 - p`` is
    known without a subtraction.
    """
    label, lse, entropy, plain, nll_sum = slopes
    _, nll, mean = _summary(seen)
    level = jnp.zeros_like(nll) if lse is None else lse
    tilt = None
    if entropy is not None:
        level, tilt = level + entropy * mean, -entropy
    if nll_sum is not None:
        level = level + nll_sum * seen.mass
        plain = -nll_sum if plain is None else plain - nll_sum
    others = level if label is None else level - label
    over = (1 / (1 + seen.rest))[:, None]

    def of_part(z, each, mine):
        below = numerics.below(z, finite_top(seen.top)[:, None])
        p = jnp.exp(below) * over
        ramp = 0 if tilt is None else tilt[:, None] * jnp.maximum(below, -FAR)
        g = p * (others[:, None] + ramp)
        if label is not None:
            own = p * (level[:, None] + ramp) - (label * jnp.expm1(-nll))[:, None]
            g = jnp.where(mine, own, g)
        if plain is not None:
            g = g + plain[:, None] * each
        return jnp.where(z > -jnp.inf, g, 0)

    return of_part


def finite_top(top: jax.Array) -> jax.Array:
    """The top, 0 of rows of which nothing is visible."""
    return jnp.where(top == -jnp.inf, 0, top)
