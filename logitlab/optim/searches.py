"""A search for learning rates by forecasts of the loss (AutoLRS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_count, check_range

__all__ = [
    "AutoLRSState",
    "Exponential",
    "Stage",
    "autolrs",
    "autolrs_stage",
    "fit_exponential",
]

FAILED = 1e6  # the forecast of a loss that is not finite, as in the released code
GRID = 256  # learning rates among which the next one is chosen
LENGTH_SCALE = 0.3  # of the Gaussian process, of the range of the logarithms
FAR = 100.0  # times the norm of the parameters
FEWEST = 8  # points, for a forecast other than the last of them


class Exponential(NamedTuple):
    """A curve a exp(b t) + c with b below 0.

    Attributes:
      a: height above the limit at t = 0.
      b: rate, below 0.
      c: limit.
    """

    a: jax.Array
    b: jax.Array
    c: jax.Array

    def at(self, t: ArrayLike) -> jax.Array:
        """The curve at a time."""
        return self.a * jnp.exp(self.b * jnp.asarray(t, self.b.dtype)) + self.c


def fit_exponential(
    losses: ArrayLike, *, times: ArrayLike | None = None, median: int = 0
) -> Exponential:
    r"""Exponential decay through a series of losses, by least squares.

    Use it to forecast where a training would be after many more steps.

    .. math:: \min_{a, b < 0, c} \sum_t (a e^{b t} + c - \ell_t)^2

    The best a and c for a rate are in closed form; the rate is searched on a grid of
    its logarithm and then by golden sections. Of fewer than 8 points the last one is
    the limit; the limit of a flat series is its mean. A series that rises has a
    negative a.

    Args:
      losses: [T], finite.
      times: of the losses [T]; by default 0 to T - 1.
      median: points on each side of a running median that takes the losses' place,
        against outliers; points without neighbors on both sides are left out.

    Returns:
      The three numbers, float32 (float64 for float64 losses); ``at(t)`` is a forecast.

    Raises:
      ValueError: the losses are not one vector, ``times`` has another shape, or
        ``median`` is negative.

    Numerics: in float32 the limit of an exact exponential over three time constants is
      good to 1e-3. The released code fits a smoothing spline of the series instead, and
      is biased by it: 0.347 for a limit of 0.5 on 100 such points.

    Source: AutoLRS, Jin et al. 2021 (ICLR), arXiv:2105.10762; the median is ours.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import fit_exponential
    >>> t = jnp.arange(100.0)
    >>> fit_exponential(2 * jnp.exp(-0.03 * t) + 0.5).at(1000).round(3)
    Array(0.5, dtype=float32)
    """
    y = numerics.promote_to_float32(losses, "losses")
    if y.ndim != 1 or not y.size:
        raise ValueError(f"losses has shape {y.shape}, expected [T]")
    check_count("median", median, 0)
    t = jnp.arange(y.size) if times is None else jnp.asarray(times)
    if t.shape != y.shape:
        raise ValueError(f"times has shape {t.shape}, expected {y.shape}")
    if y.size < FEWEST:
        zero = jnp.zeros((), y.dtype)
        return Exponential(zero, zero - 1, y[-1])
    t = t.astype(y.dtype)
    if 0 < 2 * median < y.size:
        at = jnp.arange(y.size - 2 * median)[:, None] + jnp.arange(2 * median + 1)[None]
        t, y = t[median : y.size - median], jnp.median(y[at], -1)
    return _fitted(t, y)


def _fitted(t, y):
    span = t.max() - t.min()
    span = jnp.where(span > 0, span, 1)
    mean = y.mean()

    def best(log_rate):
        """a, c and the sum of squares for a rate, in units of the span."""
        e = jnp.exp(-jnp.exp(log_rate) * (t - t.min()) / span)
        center = e.mean()
        square = jnp.sum((e - center) ** 2)
        a = jnp.sum((e - center) * (y - mean)) / jnp.where(square > 0, square, 1)
        rest = (y - mean) - a * (e - center)
        return a, mean - a * center, jnp.sum(rest**2)

    low, high, many = np.log(1e-2), np.log(3.0 * y.size), 64
    grid = jnp.linspace(low, high, many).astype(y.dtype)
    at = jnp.argmin(jax.vmap(lambda g: best(g)[2])(grid))
    gap = (high - low) / (many - 1)
    golden = (np.sqrt(5) - 1) / 2

    def narrow(ends, _):
        left, right = ends
        inner = right - golden * (right - left), left + golden * (right - left)
        lower = best(inner[0])[2] <= best(inner[1])[2]
        left, right = (
            jnp.where(lower, left, inner[0]),
            jnp.where(lower, inner[1], right),
        )
        return (left, right), None

    steps = 45 if y.dtype == jnp.float64 else 25
    ends = grid[at] - gap, grid[at] + gap
    (left, right), _ = jax.lax.scan(narrow, ends, None, steps)
    log_rate = (left + right) / 2
    a, c, _ = best(log_rate)
    rate = jnp.exp(log_rate) / span
    flat = jnp.all(y == y[0])
    a, c = jnp.where(flat, 0, a), jnp.where(flat, mean, c)
    return Exponential(a * jnp.exp(rate * t.min()), -rate, c)


def _check_bounds(lr_bounds):
    low, high = lr_bounds
    check_range("lr_bounds", low, lambda v: v > 0, "two positive numbers")
    if not any(isinstance(v, jax.core.Tracer) for v in (low, high)) and not low < high:
        raise ValueError(
            f"lr_bounds is {(low, high)}, expected a lower and a higher learning rate"
        )
    return jnp.log(jnp.asarray([low, high], jnp.float32))


def _proposed(places, values, many, chance, kappa):
    """Place in [0, 1] of the next learning rate, by the lower confidence bound.

    Args:
      places: [K] of those that were tried, the first ``many`` of them.
      values: [K] their forecasts.
      many: how many there are.
      chance: uniform, the first place.
      kappa: weight of the deviation against the mean.
    """
    grid = jnp.linspace(0, 1, GRID)
    known = jnp.arange(places.size) < many
    center = jnp.sum(jnp.where(known, values, 0)) / jnp.maximum(many, 1)
    gaps = jnp.where(known, values - center, 0)
    unit = jnp.sqrt(jnp.sum(gaps**2) / jnp.maximum(many, 1))
    gaps = gaps / jnp.where(unit > 0, unit, 1)

    def matern(a, b):
        r = jnp.sqrt(5.0) * jnp.abs(a[:, None] - b[None]) / LENGTH_SCALE
        return (1 + r + r**2 / 3) * jnp.exp(-r)

    both = known[:, None] & known[None]
    eye = jnp.eye(places.size)
    gram = (
        jnp.where(both, matern(places, places), 0)
        + eye * (jnp.where(known, 1e-6, 1)[:, None])
    )
    cross = jnp.where(known[None], matern(grid, places), 0)
    root = jnp.linalg.cholesky(gram)
    solved = jax.scipy.linalg.solve_triangular(root, cross.T, lower=True)
    variance = jnp.maximum(1 - jnp.sum(solved**2, 0), 0)
    mean = solved.T @ jax.scipy.linalg.solve_triangular(root, gaps, lower=True)
    bound = mean - kappa * jnp.sqrt(variance)
    return jnp.where(many == 0, chance, grid[jnp.argmin(bound)])


def _forecast(losses, ahead):
    """The loss after so many steps, or that of failure."""
    fine = jnp.isfinite(losses).all()
    value = fit_exponential(jnp.where(fine, losses, 0)).at(ahead)
    value = jnp.clip(value, -FAILED, FAILED)
    return jnp.where(fine & jnp.isfinite(value), value, FAILED).astype(jnp.float32)


class Stage(NamedTuple):
    """What :func:`autolrs_stage` did.

    Attributes:
      state: after the stage's training.
      learning_rate: by which it was trained.
      candidates: [K] learning rates that were tried.
      forecasts: [K] of their losses at the end of the stage.
      losses: [steps] of the training.
    """

    state: Any
    learning_rate: jax.Array
    candidates: jax.Array
    forecasts: jax.Array
    losses: jax.Array


def autolrs_stage(
    train_fn: Callable[[Any, jax.Array, int], tuple[Any, jax.Array]],
    state: Any,
    lr_bounds: tuple[ArrayLike, ArrayLike],
    *,
    key: jax.Array,
    steps: int = 1000,
    search_steps: int | None = None,
    candidates: int = 10,
    kappa: ArrayLike = 1e6,
) -> Stage:
    r"""One stage of AutoLRS: tries learning rates briefly, trains by the best forecast.

    Use it when a learning rate is not known and one training in all is to be afforded:
    the search costs as many steps as the stage itself. Each candidate starts from the
    same state; the next one minimizes the lower confidence bound
    :math:`\mu - \kappa \sigma` of a Gaussian process of the standardized forecasts
    over the logarithm of the learning rate (Matérn 5/2, unit variance), with the
    released :math:`\kappa` nearly pure exploration.

    Args:
      train_fn: (state, learning rate, number of steps) -> (state, losses [steps]); it
        is traced, and the number of steps is a Python integer.
      state: a pytree: parameters, optimizer's state, position in the data.
      lr_bounds: the lowest and the highest learning rate.
      key: draws the first candidate.
      steps: of the stage's training.
      search_steps: of each candidate; a tenth of the stage by default.
      candidates: how many are tried.
      kappa: weight of the deviation.

    Returns:
      The state after the stage, and what was tried.

    Raises:
      ValueError: a number is below 1, or the range of learning rates has no width.

    Source: AutoLRS, Jin et al. 2021 (ICLR), arXiv:2105.10762; the length scale of the
      process, 0.3 of the range, is ours.
    """
    logs = _check_bounds(lr_bounds)
    short = max(1, steps // 10) if search_steps is None else search_steps
    numbers = dict(steps=steps, search_steps=short, candidates=candidates)
    for name, value in numbers.items():
        check_count(name, value)
    chance = jax.random.uniform(key)

    def rate(place):
        return jnp.exp(logs[0] + place * (logs[1] - logs[0]))

    def attempt(carry, number):
        places, values = carry
        place = _proposed(places, values, number, chance, kappa)
        _, losses = train_fn(state, rate(place), short)
        value = _forecast(losses, steps - 1)
        return (places.at[number].set(place), values.at[number].set(value)), None

    nothing = jnp.zeros(candidates), jnp.zeros(candidates)
    (places, values), _ = jax.lax.scan(attempt, nothing, jnp.arange(candidates))
    chosen = rate(places[jnp.argmin(values)])
    new, losses = train_fn(state, chosen, steps)
    return Stage(new, chosen, rate(places), values, losses)


class AutoLRSState(NamedTuple):
    """State of :func:`autolrs`.

    Attributes:
      count: updates of this stage so far.
      stage: how many stages are over.
      learning_rate: of the next update.
      places: [K] of this stage's candidates in the range of logarithms.
      forecasts: [K] theirs.
      losses: of the candidate that is being tried.
      failed: whether it went astray.
      start: parameters at the beginning of the stage.
      inner_start: the inner optimizer's state there.
      inner: the inner optimizer's state.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    stage: jax.Array
    learning_rate: jax.Array
    places: jax.Array
    forecasts: jax.Array
    losses: jax.Array
    failed: jax.Array
    start: Any
    inner_start: Any
    inner: Any


def autolrs(
    optimizer: optax.GradientTransformation,
    lr_bounds: tuple[ArrayLike, ArrayLike],
    *,
    key: jax.Array,
    search_steps: int = 100,
    candidates: int = 10,
    kappa: ArrayLike = 1e6,
) -> optax.GradientTransformationExtraArgs:
    r"""An optimizer that searches its learning rate, stage by stage (AutoLRS).

    Use it in a loop made for gradients, such as a ``Run``; :func:`autolrs_stage` is the
    same for a training function of your own. A stage is a search of ``candidates *
    search_steps`` updates, and a training of as many. The last two updates of every
    candidate return to where the stage began, up to rounding of the parameters. A
    candidate whose loss is not finite, or that goes farther from there than 100 times
    the parameters' norm, returns at once and counts as failed.

    Wrap what comes before the learning rate: ``autolrs(optax.scale_by_adam(), (1e-4,
    1.0), key=key)``. Needs ``params``, and ``update(..., value=)``, the loss, which
    ``make_step`` passes. Dtypes survive.

    Args:
      optimizer: without a learning rate and without a sign.
      lr_bounds: the lowest and the highest learning rate.
      key: draws the first candidate of each stage.
      search_steps: of each candidate, at least 3.
      candidates: how many are tried in a stage.
      kappa: see :func:`autolrs_stage`.

    Raises:
      ValueError: a number is too small, the range of learning rates has no width, or
        ``update`` gets no params.
      TypeError: ``update`` gets no ``value``.

    Source: AutoLRS, Jin et al. 2021 (ICLR), arXiv:2105.10762. Stages here have one
      length, and training losses alone are looked at.
    """
    logs = _check_bounds(lr_bounds)
    check_count("search_steps", search_steps, 3)
    check_count("candidates", candidates)
    inner = optax.with_extra_args_support(optimizer)
    searched = candidates * search_steps

    def rate(place):
        return jnp.exp(logs[0] + place * (logs[1] - logs[0]))

    def proposed(places, values, many, stage):
        chance = jax.random.uniform(jax.random.fold_in(key, stage), dtype=jnp.float32)
        return _proposed(places, values, many, chance, kappa)

    def init(params):
        zeros, zero = jnp.zeros(candidates, jnp.float32), jnp.zeros((), jnp.int32)
        first = proposed(zeros, zeros, zero, zero)
        state = inner.init(params)
        return AutoLRSState(
            count=zero,
            stage=zero,
            learning_rate=rate(first),
            places=zeros.at[0].set(first),
            forecasts=zeros,
            losses=jnp.zeros(search_steps, jnp.float32),
            failed=jnp.zeros((), bool),
            start=jax.tree.map(jnp.array, params),
            inner_start=jax.tree.map(jnp.array, state),
            inner=state,
        )

    def update(updates, state, params=None, *, value, **extra):
        if params is None:
            raise ValueError("autolrs needs params: update(grads, state, params, ...)")
        steps, new_inner = inner.update(updates, state.inner, params, **extra)
        steps = jax.tree.map(lambda s: _times(-state.learning_rate, s), steps)
        at, number = state.count % search_steps, state.count // search_steps
        searching = state.count < searched
        losses = state.losses.at[at].set(jnp.asarray(value, jnp.float32))
        strays = _strays(params, steps, state.start) | ~jnp.isfinite(value)
        failed = searching & (state.failed | strays)
        back = searching & (failed | (at >= search_steps - 2))
        out = jax.tree.map(
            lambda s, p, start: jnp.where(back, (start - p).astype(s.dtype), s),
            *(steps, params, state.start),
        )
        new_inner = _either(back, state.inner_start, new_inner)

        # What the candidate leaves, and the next one, or the best of all.
        over = searching & (at == search_steps - 1)
        value = _forecast(losses[:-1], searched - 1)
        value = jnp.where(failed, FAILED, value)
        forecasts = state.forecasts.at[number].set(value, mode="drop")
        many = jnp.minimum(number + 1, candidates)
        following = proposed(state.places, forecasts, many, state.stage)
        places = state.places.at[number + 1].set(following, mode="drop")
        best = places[jnp.argmin(forecasts)]
        place = jnp.where(many == candidates, best, following)

        # The end of a stage, and the first candidate of the next.
        ends = state.count == 2 * searched - 1
        first = proposed(places, forecasts, 0, state.stage + 1)
        after = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, out)
        begun = state.places.at[0].set(first)
        next_rate = rate(jnp.where(ends, first, place))
        return out, AutoLRSState(
            count=jnp.where(ends, 0, state.count + 1),
            stage=state.stage + ends,
            learning_rate=jnp.where(over | ends, next_rate, state.learning_rate),
            places=jnp.where(ends, begun, jnp.where(over, places, state.places)),
            forecasts=jnp.where(over, forecasts, state.forecasts),
            losses=losses,
            failed=failed & ~over,
            start=_either(ends, after, state.start),
            inner_start=_either(ends, new_inner, state.inner_start),
            inner=new_inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _times(number, array):
    wide = jnp.promote_types(array.dtype, jnp.float32)
    return (number.astype(wide) * array.astype(wide)).astype(array.dtype)


def _either(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _strays(params, steps, start):
    """Whether parameters would be far from the start, or not finite."""
    gap = jax.tree.map(lambda p, s, a: p + s - a, params, steps, start)
    return ~(tree_norm(gap) <= FAR * (1 + tree_norm(start)))
