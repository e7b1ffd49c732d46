"""Learning rates: refined by the last run's gradients, and for large batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_count, check_range

__all__ = [
    "GradNormState",
    "adapt_regime",
    "distance_from_init",
    "linear_decay",
    "record_grad_norm",
    "refine_schedule",
    "schedule_from_array",
    "sqrt_batch_scale",
]

POWERS = {"inverse_square": 2, "inverse": 1}
ORDERS = (1, 2)


def refine_schedule(
    grad_norms: ArrayLike,
    *,
    weights: str = "inverse_square",
    smoothing: float = 0.1,
) -> jax.Array:
    r"""A better learning-rate schedule from the gradient norms of a finished run.

    Use it when a training is to be repeated, longer or with other seeds: it warms up
    where early gradients are large, and decays linearly where norms are constant.

    .. math:: \lambda_t \propto w_t \sum_{p=t+1}^{T} w_p, \qquad
        w_t = \hat G_t^{-2} \text{ (SGD) or } \hat G_t^{-1} \text{ (Adam)}

    with :math:`\hat G` a running median of the norms. The largest value is 1: multiply
    by the peak learning rate. The last value is 0, as that update is not averaged over
    anything after it.

    Shapes: grad_norms [T] -> [T]

    Args:
      grad_norms: of the stochastic gradients that the optimizer was given, before any
        clipping, as :func:`record_grad_norm` keeps them; Euclidean norms for SGD, sums
        of magnitudes for Adam. Norms of 0 count as 1e-12 of the largest; what is not
        finite is interpolated.
      weights: ``"inverse_square"`` for SGD, ``"inverse"`` for Adam.
      smoothing: width of the median over T, in [0, 1); fewer than 5 steps have none.

    Returns:
      Float32 (float64 for float64 norms). :func:`schedule_from_array` makes a schedule.

    Raises:
      ValueError: the norms are not one vector, ``smoothing`` is outside [0, 1), or
        there is no such kind of weights.

    Numerics: weights are taken relative to the largest, so norms of any scale do.

    Source: When, Why and How Much? Defazio et al. 2023, arXiv:2310.07831.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import refine_schedule
    >>> refine_schedule(jnp.ones(5))
    Array([1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32)
    >>> refine_schedule(jnp.float32([8, 2, 1, 1])) * 64
    Array([ 2.25, 32.  , 64.  ,  0.  ], dtype=float32)
    """
    if weights not in POWERS:
        raise ValueError(f"weights is {weights!r}, expected {' or '.join(POWERS)}")
    check_range("smoothing", smoothing, lambda s: (s >= 0) & (s < 1), "in [0, 1)")
    norms = numerics.promote_to_float32(grad_norms, "grad_norms")
    if norms.ndim != 1 or not norms.size:
        raise ValueError(f"grad_norms has shape {norms.shape}, expected [T]")
    steps = jnp.arange(norms.size, dtype=norms.dtype)
    fine = jnp.isfinite(norms)
    norms = _interpolated(steps, norms, fine)
    norms = jnp.abs(norms)
    largest = norms.max()
    norms = norms / jnp.where(largest > 0, largest, 1) + 1e-12
    half = int(smoothing * norms.size / 2) if norms.size >= 5 else 0
    if half:
        norms = _running_median(norms, half)
    w = (norms.min() / norms) ** POWERS[weights]
    later = jnp.cumsum(w[::-1])[::-1] - w
    later = jnp.maximum(later, 0).at[-1].set(0)
    found = w * later
    top = found.max()
    return found / jnp.where(top > 0, top, 1)


def _interpolated(steps, values, fine):
    """Values that are not finite, on a line between the nearest that are."""
    first = jnp.argsort(~fine, stable=True)  # known points first, in order
    many = fine.sum()
    rank = jnp.arange(steps.size)
    last = first[jnp.maximum(many - 1, 0)]
    order = jnp.where(rank < many, first, last)
    safe = jnp.where(fine, values, 0)
    return jnp.where(fine, values, jnp.interp(steps, steps[order], safe[order]))


def _running_median(values, half):
    """Over 2 half + 1 steps; the start repeats, the end is a mirror."""
    front = jnp.full(half, values[0])
    padded = jnp.concatenate([front, jnp.pad(values, (0, half), mode="reflect")])
    at = jnp.arange(values.size)[:, None] + jnp.arange(2 * half + 1)[None]
    return jnp.median(padded[at], -1)


def schedule_from_array(values: ArrayLike) -> optax.Schedule:
    """A schedule that reads an array; after its end the last value stays.

    Use it to train by what :func:`refine_schedule` returns. The array may be traced: a
    sweep over schedules is then one program.

    Args:
      values: [T], the learning rate of each update.

    Raises:
      ValueError: it is not a vector of at least one number.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import schedule_from_array
    >>> rate = schedule_from_array(jnp.float32([0.5, 0.25]))
    >>> rate(0), rate(7)
    (Array(0.5, dtype=float32), Array(0.25, dtype=float32))
    """
    rates = numerics.promote_to_float32(values, "values")
    if rates.ndim != 1 or not rates.size:
        raise ValueError(f"values has shape {rates.shape}, expected [T]")

    def rate(count):
        return rates[jnp.clip(count, 0, rates.size - 1)]

    return rate


def linear_decay(
    peak: ArrayLike, steps: ArrayLike, *, warmup: ArrayLike = 0
) -> optax.Schedule:
    r"""Learning rate that rises over the warm-up, and falls to 0 on a line.

    Use it where nothing is known of the gradients: it is the best schedule of the
    refinement's theory then, and the paper's advice.

    .. math:: \eta_k = \eta \min\Bigl(\frac{k + 1}{W + 1}, \frac{T - k}{T - W}\Bigr)

    for updates k = 0, ..., T - 1: it is 0 after the last, not at it.

    Args:
      peak: :math:`\eta`.
      steps: T.
      warmup: W, below T.

    Raises:
      ValueError: ``steps`` is below 1, or ``warmup`` is not in [0, T).

    Source: When, Why and How Much? Defazio et al. 2023, arXiv:2310.07831.

    >>> from logitlab.optim import linear_decay
    >>> [float(linear_decay(1.0, 4)(k)) for k in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    check_range("steps", steps, lambda t: t >= 1, "at least 1")
    check_range("warmup", warmup, lambda w: w >= 0, "at least 0")
    if not isinstance(steps, jax.core.Tracer):
        check_range("warmup", warmup, lambda w: w < steps, f"below {steps}, the steps")

    def rate(count):
        top = jnp.asarray(peak, jnp.promote_types(jnp.result_type(peak), jnp.float32))
        k, t, w = (jnp.asarray(a, top.dtype) for a in (count, steps, warmup))
        rise, fall = (k + 1) / (w + 1), (t - k) / (t - w)
        return top * jnp.clip(jnp.minimum(rise, fall), 0, 1)

    return rate


class GradNormState(NamedTuple):
    """State of :func:`record_grad_norm`.

    Attributes:
      count: updates so far.
      norms: [length] of the last ones; update k stands at k modulo the length.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    norms: jax.Array


def record_grad_norm(length: int, *, ord: int = 2) -> optax.GradientTransformation:
    """Keeps the norms of gradients, and passes these unchanged.

    Goes first in a chain, before any clipping. Its state's ``norms`` are for
    :func:`refine_schedule`, and NaN until an update has come.

    Args:
      length: how many norms are kept; later ones take the places of the first.
      ord: 2 for the Euclidean norm of all leaves as one vector, for SGD; 1 for the sum
        of magnitudes, for Adam.

    Raises:
      ValueError: ``length`` is below 1, or ``ord`` is neither.

    Source: When, Why and How Much? Defazio et al. 2023, arXiv:2310.07831.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import record_grad_norm
    >>> transform, g = record_grad_norm(2), jnp.float32([3, 4])
    >>> transform.update(g, transform.init(g))[1].norms
    Array([ 5., nan], dtype=float32)
    """
    check_count("length", length)
    if ord not in ORDERS:
        raise ValueError(f"ord is {ord}, expected 1 or 2")

    def init(params):
        del params
        return GradNormState(
            jnp.zeros((), jnp.int32), jnp.full(length, jnp.nan, jnp.float32)
        )

    def update(updates, state, params=None):
        del params
        if ord == 2:
            norm = tree_norm(updates)
        else:
            norm = sum(
                jnp.abs(g.astype(jnp.promote_types(g.dtype, jnp.float32))).sum()
                for g in jax.tree.leaves(updates)
            )
        norms = state.norms.at[state.count % length].set(norm.astype(jnp.float32))
        return updates, GradNormState(state.count + 1, norms)

    return optax.GradientTransformation(init, update)


def sqrt_batch_scale(
    learning_rate: ArrayLike, batch: ArrayLike, base_batch: ArrayLike
) -> ArrayLike:
    r"""Learning rate of another batch size: times the root of the sizes' ratio.

    Use it to keep the noise of updates when batches grow.

    .. math:: \eta_L = \eta_S \sqrt{B_L / B_S}

    Raises:
      ValueError: a number is not positive.

    Source: Train longer, generalize better, Hoffer et al. 2017, arXiv:1705.08741.

    >>> from logitlab.optim import sqrt_batch_scale
    >>> sqrt_batch_scale(0.1, 1024, 64)
    0.4
    """
    numbers = dict(learning_rate=learning_rate, batch=batch, base_batch=base_batch)
    for name, value in numbers.items():
        check_range(name, value, lambda v: v > 0, "positive")
    return learning_rate * (batch / base_batch) ** 0.5


def adapt_regime(
    boundaries: Sequence[int], batch: int, base_batch: int
) -> tuple[int, ...]:
    r"""Epochs of a training with another batch size that keep its number of updates.

    Use it on the number of epochs, and on those at which learning rates drop.

    .. math:: e \lceil B_L / B_S \rceil

    Raises:
      ValueError: a batch size is below 1.

    Source: Train longer, generalize better, Hoffer et al. 2017, arXiv:1705.08741.

    >>> from logitlab.optim import adapt_regime
    >>> adapt_regime((81, 122), 1024, 128)
    (648, 976)
    """
    check_count("batch", batch)
    check_count("base_batch", base_batch)
    factor = -(-batch // base_batch)
    return tuple(int(epoch) * factor for epoch in boundaries)


def distance_from_init(params: Any, start: Any) -> jax.Array:
    r"""How far parameters are from where they started, :math:`\|w_t - w_0\|`.

    Use it to see diffusion: it grows like log t in the first phase of training.

    Raises:
      ValueError: the trees differ.

    Source: Train longer, generalize better, Hoffer et al. 2017, arXiv:1705.08741.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import distance_from_init
    >>> distance_from_init({"w": jnp.float32([3, 4])}, {"w": jnp.zeros(2)})
    Array(5., dtype=float32)
    """

    def gap(a, b):
        dtype = jnp.promote_types(jnp.result_type(a), jnp.float32)
        return jnp.asarray(a, dtype) - jnp.asarray(b, dtype)

    return tree_norm(jax.tree.map(gap, params, start))
