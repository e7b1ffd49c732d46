"""Attacks that only ask for logits: random search over squares."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab.attacks._problem import (
    Attack,
    LogitsFn,
    Loss,
    Problem,
    check_problem,
    update,
)
from logitlab.attacks.balls import Bounds, Norm, as_column, lengths
from logitlab.attacks.objectives import label_odds
from logitlab.numerics.arguments import hyper

__all__ = ["square_attack"]


def square_attack(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    loss: Loss = label_odds,
    eps: ArrayLike,
    steps: int = 1000,
    share: ArrayLike = 0.8,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    mask: ArrayLike | None = None,
) -> Attack:
    r"""Square attack: random changes of a window of features, kept where they help.

    Takes no gradients. Where it breaks what gradients do not, the gradients are masked.

    For the norm infinity a step sets a window to the wall of the ball, on a random
    side. For 2 and 1 it empties one window, and puts what is left of the radius, as
    random signs added to what is there, into another. Windows start with a share of all
    features, which is halved eight times on the way. Images, [B, H, W, channels], have
    square windows with one sign for each channel. In any other shape a window is a
    random set of features, each with its own sign.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself. Need not be
        differentiable.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      key: of the random changes.
      loss: what has to rise, ``(logits, labels) -> [B]``.
      eps: radius of the ball, above 0, a number or [B]; may be traced.
      steps: how many changes are tried, a Python integer.
      share: of the features in the first windows, in (0, 1].
      norm: "inf", 2 or 1.
      bounds: as in ``pgd``.
      mask: bool [B], the examples to attack.

    Returns:
      An ``Attack``. It costs ``steps + 2`` forward passes.

    Raises:
      TypeError: ``inputs`` is not floating point or ``labels`` not integer.
      ValueError: ``eps`` or ``steps`` is not above 0, ``share`` is not in (0, 1];
        inputs that are not finite or outside the bounds (not checked under ``jit``);
        shapes that disagree, among them those of the logits.

    Source: Andriushchenko et al. 2020, arXiv:1912.00049. That features of other shapes
      form random sets is inferred, and windows of the norms 2 and 1 are flat, not
      pyramids.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import square_attack
    >>> x, y = jnp.float32([[0.7, 0.3]]), jnp.array([0])
    >>> options = dict(key=jax.random.key(0), eps=0.25, steps=9)
    >>> jax.jit(lambda x: square_attack(jnp.round, x, y, **options))(x).broken
    Array([ True], dtype=bool)
    """
    problem, x = check_problem(
        logits_fn,
        inputs,
        labels,
        loss=loss,
        eps=eps,
        norm=norm,
        bounds=bounds,
        steps=steps,
        mask=mask,
    )
    share = hyper("share", share, x.dtype, lambda s: (s > 0) & (s <= 1), "in (0, 1]")
    turns = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]  # of 10,000 steps
    halvings = np.searchsorted(turns, np.arange(steps) * 10_000 / steps)
    first, key = jax.random.split(key)
    start = problem.project(problem.x + _first_change(problem, first))
    values = problem.look(start)
    found = update(problem.nothing_found(), start, values)

    def body(found, at):
        key, share = at
        points = problem.project(problem.x + _change(problem, found.best, key, share))
        return update(found, points, problem.look(points)), None

    schedule = jax.random.split(key, steps), share * jnp.asarray(0.5**halvings, x.dtype)
    found, _ = jax.lax.scan(body, found, schedule)
    return problem.finish(found, x)


def _is_image(x):
    return x.ndim == 4


def _first_change(problem: Problem, key):
    """Random signs on the sphere: of images, one for each column and channel."""
    x = problem.x
    shape = (x.shape[0], 1, *x.shape[2:]) if _is_image(x) else x.shape
    signs = jnp.broadcast_to(jax.random.rademacher(key, shape, x.dtype), x.shape)
    return problem.eps * signs / jnp.maximum(lengths(signs, problem.norm), 1)


def _change(problem: Problem, best, key, share):
    """The perturbation to try next, not yet within the bounds."""
    x, eps, norm = problem.x, problem.eps, problem.norm
    here, there, side = jax.random.split(key, 3)
    d, window = best - x, _window(here, x, share)
    shape = (x.shape[0], 1, 1, x.shape[-1]) if _is_image(x) else x.shape
    signs = jnp.where(window, jax.random.rademacher(side, shape, x.dtype), 0)
    if norm == np.inf:
        return jnp.where(window, eps * signs, d)
    freed = window | _window(there, x, share)
    kept, moved = jnp.where(freed, 0, d), jnp.where(window, d, 0)
    left = lengths(kept, norm)  # the rest of the radius goes into the window
    budget = jnp.sqrt(jnp.maximum(eps**2 - left**2, 0)) if norm == 2 else eps - left
    new = _unit(moved, norm) + _unit(signs, norm)
    return kept + jnp.maximum(budget, 0) * _unit(new, norm)


def _window(key, x, share):
    """Bool, the features of a window, of every example its own."""
    if not _is_image(x):
        chance = jax.random.uniform(key, x.shape, x.dtype)
        rows = chance.reshape(x.shape[0], math.prod(x.shape[1:]))
        lowest = as_column(jnp.min(rows, -1), x)
        return (chance < share) | (chance == lowest)  # one at least
    height, width = x.shape[1:3]
    side = jnp.maximum(jnp.round(jnp.sqrt(share * height * width)), 1)
    side = jnp.minimum(side, min(height, width)).astype(jnp.int32)
    corner = jax.random.uniform(key, (2, x.shape[0], 1, 1, 1), x.dtype)
    inside = []
    for axis, size in ((1, height), (2, width)):
        free = (size - side + 1).astype(x.dtype)
        low = jnp.floor(corner[axis - 1] * free).astype(jnp.int32)
        at = jax.lax.broadcasted_iota(jnp.int32, (1, *x.shape[1:3], 1), axis)
        inside.append((at >= low) & (at < low + side))
    return inside[0] & inside[1]


def _unit(d, norm):
    length = lengths(d, norm)
    return d / jnp.where(length > 0, length, 1)
