"""What equally good logistic regressions predict, exactly."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.estimators._examples import feature_rows
from logitlab.numerics.arguments import binary, hyper

__all__ = ["ViableRanges", "viable_prediction_range"]

_BOUND = 25.0  # of a coefficient
_MAX_STEPS = 60


class ViableRanges(NamedTuple):
    """Predictions of all logistic regressions that are about as good as the best one.

    Attributes:
      ranges: lowest and highest probability of each query, [Q, 2].
      probs: of the best model, [Q].
      coefficients: of the best model, the intercept first, [D + 1].
      models: coefficients of those that reach the ends of the ranges, [Q, 2, D + 1].
      loss: mean logistic loss of the best model, [].
      at_bound: whether a coefficient reached 25 in size, as where labels can be
        separated; that end of the range is then 0 or 1, and its model the best one,
        [Q, 2].
    """

    ranges: jax.Array
    probs: jax.Array
    coefficients: jax.Array
    models: jax.Array
    loss: jax.Array
    at_bound: jax.Array


def viable_prediction_range(
    x: ArrayLike,
    labels: ArrayLike,
    query: ArrayLike | None = None,
    *,
    epsilon: ArrayLike,
    relative: bool = False,
    ridge: ArrayLike = 1e-6,
) -> ViableRanges:
    r"""The least and greatest probability that a nearly optimal linear model gives.

    A wide range says that data do not decide what to predict of an example: another
    model, equally good, says something else. ``metrics.predictive_ambiguity`` counts
    such examples, and ``metrics.discrepancy_bounds`` those about which one model
    differs.

    .. math:: \Bigl[\min_{w \in W} \sigma(w \cdot x), \max_{w \in W} \sigma(w \cdot x)
        \Bigr], \quad W = \{w : L(w) \le L(w_0) + \epsilon\}

    with L the mean logistic loss of a model with an intercept, and :math:`w_0` the
    minimum of L plus a ridge. The least loss of models that give a query the log-odds c
    is convex in c, and Newton's method finds where it leaves W.
    The paper tries a grid of c.

    Shapes: x [N, D], labels [N], query [Q, D]
      -> ([Q, 2], [Q], [D + 1], [Q, 2, D + 1], [], [Q, 2])

    Args:
      x: features; standardize them, as coefficients are bounded.
      labels: 0 or 1.
      query: examples whose ranges are asked for; those of the fit by default.
      epsilon: loss in nats that a model may have above the best one, at least 0.
      relative: takes ``epsilon`` as a share of the best loss instead.
      ridge: weight of the sum of squared coefficients without the intercept.

    Returns:
      ``ViableRanges``, all of them from one program; float32, or float64 for float64
      features.

    Raises:
      TypeError: ``x`` or ``query`` is not floating point.
      ValueError: the shapes disagree, there are no examples, a label is neither 0 nor 1
        (NaN under ``jit``), or ``epsilon`` or ``ridge`` is negative.

    Numerics: float64 to 1e-8, float32 to 1e-4 at an epsilon of 0.01.

    Source: Watson-Daniels et al. 2023, arXiv:2206.01131.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import viable_prediction_range
    >>> x = jnp.float32([[-1], [-1], [-1], [1], [1], [1]])
    >>> y = jnp.array([0, 0, 1, 0, 1, 1])
    >>> found = viable_prediction_range(x, y, jnp.float32([[0.0]]), epsilon=0.02)
    >>> found.ranges.round(3)
    Array([[0.395, 0.605]], dtype=float32)
    """
    x = feature_rows(x)
    new = x if query is None else numerics.promote_to_float32(query, "query")
    if new.ndim != 2 or new.shape[1] != x.shape[1]:
        raise ValueError(f"query has shape {new.shape}, expected [Q, {x.shape[1]}]")
    y, bad = binary(labels, x.shape[:1], x.dtype, soft=False)
    epsilon = hyper("epsilon", epsilon, x.dtype, lambda e: e >= 0, "at least 0")
    ridge = hyper("ridge", ridge, x.dtype, lambda r: r >= 0, "at least 0")
    y = jnp.where(bad, jnp.nan, y)
    return _ranges(
        _with_one(x), y, _with_one(new.astype(x.dtype)), epsilon, relative, ridge
    )


@jax.jit
def _ranges(x, y, new, epsilon, relative, ridge):
    signed = x * (2 * y - 1)[:, None]  # of which a model's margins are the log-odds
    weights = ridge * jnp.ones(x.shape[1], x.dtype).at[0].set(0)
    zero = jnp.zeros(x.shape[1], x.dtype)
    best, _ = _minimum(signed, zero, None, weights)
    loss = _loss(signed, best)
    most = loss + jnp.where(relative, epsilon * loss, epsilon)
    inverse = jnp.linalg.inv(_curvature(signed, best, 0))

    def end(direction):
        """The model of W that is furthest in a direction, and whether there is none."""
        spread = jnp.maximum(direction @ inverse @ direction, 0)
        along = inverse @ direction / jnp.where(spread > 0, spread, 1)
        first = jnp.sqrt(2 * (most - loss) * spread)  # as though L were quadratic

        def advance(carry):
            w, more, _, back, k = carry
            w, slope = _minimum(signed, w + more * along, direction, 0)
            to_end = (most - _loss(signed, w)) / slope
            more = jnp.where(slope > 0, to_end, 2 * jnp.abs(more))
            return w, more, slope, back | (more < 0), k + 1

        def unfinished(carry):
            # The loss is convex: once beyond the end, every step falls short of it.
            w, more, _, back, k = carry
            tol = 64 * jnp.finfo(w.dtype).eps * (1 + jnp.abs(direction @ w))
            near = (jnp.abs(more) <= tol) | (back & (more >= 0))
            return ~near & (_largest(w) < _BOUND) & (k < _MAX_STEPS)

        start = (best, first, jnp.ones_like(loss), jnp.array(False), 0)
        w, _, slope, *_ = jax.lax.while_loop(unfinished, advance, start)
        free = (~(slope > 0) | ~(_largest(w) < _BOUND)) & (most > loss)
        return jnp.where(free | (most <= loss), best, w), free

    directions = jnp.stack([-new, new], 1)
    models, free = jax.vmap(jax.vmap(end))(directions)
    probs = jax.nn.sigmoid(jnp.matmul(new, best, precision="highest"))
    odds = jnp.einsum("qed,qd->qe", models, new, precision="highest")
    limits = jnp.broadcast_to(jnp.array([0, 1], x.dtype), odds.shape)
    ranges = jnp.where(free, limits, jax.nn.sigmoid(odds))
    ranges = jnp.where(most > loss, ranges, probs[:, None])  # also NaN
    return ViableRanges(ranges, probs, best, models, loss, free)


def _minimum(signed, w, direction, weights):
    """The least loss from ``w`` on by Newton's method, and its slope in ``direction``.

    With a direction, only models that agree with ``w`` along it take part.
    """
    halves = 2.0 ** -jnp.arange(8, dtype=w.dtype)

    def total(w):
        return _loss(signed, w) + jnp.sum(weights * w**2)

    def newton(w):
        slope = jax.grad(total)(w)
        curvature = _curvature(signed, w, weights)
        if direction is None:
            return -jnp.linalg.solve(curvature, slope), jnp.ones((), w.dtype)
        both = jnp.linalg.solve(curvature, jnp.stack([slope, direction], -1))
        price = (direction @ both[:, 0]) / (direction @ both[:, 1])
        return price * both[:, 1] - both[:, 0], price

    def advance(carry):
        w, _, _, k = carry
        step, price = newton(w)
        tried = w[None] + halves[:, None] * step[None]
        w = tried[jnp.argmin(jax.vmap(total)(tried))]
        return w, _largest(step), price, k + 1

    def unfinished(carry):
        # What is left after a step is as its square.
        w, size, _, k = carry
        tol = jnp.finfo(w.dtype).eps ** 0.5 * (1 + _largest(w))
        return (size > tol) & (_largest(w) < 2 * _BOUND) & (k < _MAX_STEPS)

    one = jnp.ones((), w.dtype)
    start = (w, jnp.full_like(one, jnp.inf), one, 0)
    w, _, price, _ = jax.lax.while_loop(unfinished, advance, start)
    return w, price


def _loss(signed, w):
    margins = jnp.matmul(signed, w, precision="highest")
    return jnp.mean(jax.nn.softplus(-margins))


def _curvature(signed, w, weights):
    """The Hessian, with enough of a ridge for features that depend on each other."""
    p = jax.nn.sigmoid(jnp.matmul(signed, w, precision="highest"))
    scaled = signed * (p * (1 - p) / len(signed))[:, None]
    matrix = jnp.matmul(signed.T, scaled, precision="highest")
    ridge = 0.1 * jnp.finfo(w.dtype).eps ** 0.5 * jnp.trace(matrix) / len(w)
    return matrix + jnp.diag(2 * weights + jnp.full_like(w, ridge))


def _largest(w):
    return jnp.max(jnp.abs(w))


def _with_one(x):
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x], -1)
