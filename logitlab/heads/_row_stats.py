"""Online statistics of rows of logits that arrive in parts, and their gradients.

The running state of a row is its largest logit and the sum of exponentials of the
others relative to it: nothing small is added to something large, so that a confident
row is as exact as in :mod:`logitlab.numerics`.
"""

from __future__ import annotations

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
    "measured_from",
    "merge",
    "merge_devices",
    "nothing_seen",
    "seen_in",
    "slope_rule",
]

FAR = 1e4  # below the top; exponentials are 0 from there on in every dtype


class LabelStats(NamedTuple):
    """Statistics of a row of logits that most losses are functions of, one per token.

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
    """Running state of N rows: the largest logit and sums over the others; [N] each.

    ``1 + rest`` is the sum of exponentials measured from the top; -1 of no class.
    ``moment`` is the sum of exponentials times their logarithms, ``depth`` the weighted
    sum of the logits measured from the top, ``mass`` the sum of the weights, ``gap``
    the label's logit measured from the top; ``inf`` where no label was seen.
    """

    top: jax.Array
    rest: jax.Array
    moment: jax.Array
    depth: jax.Array
    mass: jax.Array
    classes: jax.Array
    gap: jax.Array
    label_weight: jax.Array
    argmax: jax.Array


def nothing_seen(count: int, dtype: jnp.dtype) -> Seen:
    """The state before the first class."""
    zero = jnp.zeros(count, dtype)
    return Seen(
        top=zero - jnp.inf,
        rest=zero - 1,
        moment=zero,
        depth=zero,
        mass=zero,
        classes=zero,
        gap=zero + jnp.inf,
        label_weight=zero,
        argmax=zero.astype(jnp.int32),
    )


def seen_in(
    z: jax.Array,
    each: ArrayLike,
    mine: jax.Array,
    first: jax.Array | int,
    *,
    stored: bool,
) -> Seen:
    """The state of rows of which only these classes were seen.

    Args:
      z: logits [N, c], hidden ones at ``-inf``.
      each: weights of the classes, broadcastable.
      mine: where the class is the label, [N, c].
      first: number of the first class.
      stored: the logits are numbers in memory, or one sum of such, so that the top is
        equal to itself. Others may be computed and rounded more than once; the top is
        then told by its place, which takes about as long as an exponential.
    """
    visible, top = z > -jnp.inf, jnp.max(z, -1)
    place = jnp.argmax(z, -1).astype(jnp.int32)
    if stored:
        below = z - finite_top(top)[:, None]
        e = jnp.exp(below)
        ones = jnp.floor(e)  # the top and its equals; the rest is summed without them
        rest = jnp.sum(e - ones, -1) + (jnp.sum(ones, -1) - 1)
    else:
        lead = numerics.is_label(z, place)
        below = measured_from(top, z, lead)
        e = jnp.exp(below)
        rest = jnp.where(top == -jnp.inf, -1, jnp.sum(jnp.where(lead, 0, e), -1))
    return Seen(
        top=top,
        rest=rest,
        moment=jnp.sum(e * jnp.maximum(below, -FAR), -1),
        depth=jnp.sum(jnp.where(visible, below, 0) * each, -1),
        mass=jnp.sum(visible * each, -1, dtype=z.dtype),
        classes=jnp.sum(visible, -1, dtype=z.dtype),
        gap=jnp.min(jnp.where(mine, below, jnp.inf), -1),
        label_weight=jnp.sum(mine * each, -1, dtype=z.dtype),
        argmax=first + place,
    )


def measured_from(top: jax.Array, z: jax.Array, lead: jax.Array) -> jax.Array:
    """Logits minus their row's largest, exactly 0 where ``lead`` is True.

    By its place, as compilers may compute a logit twice and round it differently: the
    top need not be equal to itself.

    Shapes: top [N], z [N, c], lead [N, c] -> [N, c]
    """
    return jnp.where(lead, 0, z - finite_top(top)[:, None])


def merge(seen: Seen, more: Seen) -> Seen:
    """Merges the states of two parts of the same rows."""
    lead = ~(more.top > seen.top)
    top = jnp.where(lead, seen.top, more.top)
    first = jnp.where(lead, seen.argmax, more.argmax)
    parts = _moved(seen, top, lead), _moved(more, top, ~lead)
    sums = Seen(*map(jnp.add, *parts))
    gap = jnp.minimum(*(part.gap for part in parts))
    return sums._replace(top=top, gap=gap, argmax=first)


def merge_devices(seen: Seen, axis_name: tuple[str, ...]) -> Seen:
    """Merges the states of the same rows over the devices of mesh axes."""
    top = jax.lax.pmax(seen.top, axis_name)
    none = jnp.iinfo(jnp.int32).max
    first = jnp.where(seen.top == top, seen.argmax, none)
    first = jax.lax.pmin(first, axis_name)
    part = _moved(seen, top, seen.argmax == first)
    sums = jax.lax.psum(part._replace(top=None, gap=None, argmax=None), axis_name)
    gap = jax.lax.pmin(part.gap, axis_name)
    return sums._replace(top=top, gap=gap, argmax=first)


def _moved(part, top, lead):
    """A part's state relative to the row's largest logit, which ``rest`` excludes."""
    some = part.top > -jnp.inf
    far = jnp.where(lead, 0, part.top - finite_top(top))
    shift = jnp.maximum(far, -FAR)
    weight, total = jnp.exp(shift), 1 + part.rest
    return part._replace(
        rest=jnp.where(lead, part.rest, weight * total),
        moment=weight * (part.moment + shift * total),
        depth=jnp.where(some, part.depth + far * part.mass, 0),
        gap=jnp.where(part.gap == jnp.inf, jnp.inf, part.gap + far),
    )


def finish(seen: Seen) -> LabelStats:
    """The statistics, once every class was seen."""
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
    """Log-sum-exp above the largest logit, the label's loss, and the mean logit."""
    some = seen.top > -jnp.inf
    log_total = jnp.log1p(seen.rest)
    nll = jnp.where(some, log_total - seen.gap, 0)
    return log_total, nll, seen.moment / jnp.where(some, 1 + seen.rest, 1)


def slope_rule(slopes: Sequence[jax.Array | None], seen: Seen) -> Callable:
    """``(z, each, mine, lead) -> gradient of z``, for any part of the rows.

    ``mine`` and ``lead`` are where the class is the label and where it is the top. With
    p a class's probability, w its weight, d its score below the top and T the mean of
    d, the slope of its logit is
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

    def of_part(z, each, mine, lead):
        if tilt is None:  # which alone looks at the top's own zero
            lead = False
        below = measured_from(seen.top, z, lead)
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
    """The largest logit; 0 for rows in which every class is hidden."""
    return jnp.where(top == -jnp.inf, 0, top)
