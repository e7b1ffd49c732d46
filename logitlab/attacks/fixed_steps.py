"""Attacks whose step sizes are set before they start: PGD and PMA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.attacks._problem import (
    Attack,
    Found,
    LogitsFn,
    Loss,
    Problem,
    check_problem,
    update,
)
from logitlab.attacks.balls import Bounds, Norm, check_radius, steepest
from logitlab.attacks.objectives import label_odds, log_probability_margin

__all__ = ["pgd", "pma_attack"]

_SHARE = 0.2  # of the coordinates, in an l1 step


def pgd(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    loss: Loss = label_odds,
    eps: ArrayLike,
    steps: int,
    step_size: ArrayLike | None = None,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    key: jax.Array | None = None,
    targets: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Attack:
    r"""Projected gradient ascent on a loss of the logits.

    The attack for adversarial training, with few steps; ``apgd`` is stronger with many.
    With one step of the size eps it is FGSM.

    .. math:: x \leftarrow P \bigl(x + \alpha \, \mathrm{dir}(\nabla_x \ell) \bigr)

    The direction has length 1 in the norm: the sign, the normalized gradient or, for
    the norm 1, equal parts with the signs of the largest fifth of its entries, rounded
    up.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      loss: what to maximize, ``(logits, labels) -> [B]``: of this room, or any loss of
        ``losses``. One of 0 slope does not move.
      eps: radius of the ball, above 0, a number or [B]; may be traced.
      steps: how many steps, a Python integer.
      step_size: above 0, a number or [B]; 2.5 eps / steps by default.
      norm: "inf", 2 or 1.
      bounds: the lowest and the highest input, numbers or arrays that broadcast to the
        inputs; None for inputs without bounds, such as standardized tables.
      key: for a random start, uniform in the ball; without it the inputs are the start.
        ``vmap`` over keys makes restarts, which :func:`strongest` unites.
      targets: ints [B], classes to aim at: the loss gets them as third argument. Any
        wrong class still counts.
      mask: bool [B], the examples to attack. The others come back as they are.

    Returns:
      An ``Attack``, float32 (float64 for float64 inputs). It costs ``steps + 1``
      gradients, and one forward pass if the start is random.

    Raises:
      TypeError: ``inputs`` is not floating point or ``labels`` not integer.
      ValueError: ``eps``, ``steps`` or ``step_size`` is not above 0; inputs that are
        not finite or outside the bounds (not checked under ``jit``); a target that is
        the label; shapes that disagree, among them those of the logits.

    Source: PGD, Madry et al. 2018, arXiv:1706.06083.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import pgd
    >>> x, y = jnp.float32([[0.5, 0.5]]), jnp.array([0])
    >>> weights = jnp.float32([[1, 0], [0, 1]])
    >>> pgd(lambda x: x @ weights, x, y, eps=0.25, steps=3).inputs
    Array([[0.25, 0.75]], dtype=float32)
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
        targets=targets,
        mask=mask,
    )
    size = 2.5 * problem.eps / steps
    if step_size is not None:
        size = check_radius(step_size, x, "step_size")
    found = problem.nothing_found()
    sizes = jnp.ones(steps + 1, x.dtype)
    found = _ascend(problem, found, problem.start(None, key), sizes, size)
    return problem.finish(found, x, look=key is not None)


def pma_attack(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike,
    steps: int = 100,
    temperature: ArrayLike = 1.0,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    key: jax.Array | None = None,
    mask: ArrayLike | None = None,
) -> Attack:
    r"""Probability margin attack: two passes, which end on the probability margin.

    Unlike a margin of logits it weighs all classes and how confident the model is.

    The first step of a pass raises the label's probability; up to half of the steps,
    the first pass then lowers it and the second raises the best wrong class; the rest
    maximizes the probability margin. Steps fall as a cosine from about 2 eps to 0,
    twice. Each objective is taken in log-odds, which leaves the signs as they are and
    keeps the slopes from rounding to 0.

    .. math:: \alpha_i = \epsilon \Bigl(1 + \cos \frac{\pi (i - 1)}{K - c}\Bigr), \;
        i \le c; \qquad \epsilon \Bigl(1 + \cos \frac{\pi (i - c - 1)}{K - c}\Bigr), \;
        i > c; \qquad c = \lfloor K / 2 \rfloor

    for the steps i = 0 ... K - 1.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      eps: radius of the ball, above 0, a number or [B]; may be traced.
      steps: K, the steps of each pass, a Python integer.
      temperature: what the logits are divided by before each objective, above 0, a
        number or [B]. Unlike a margin of logits, the objectives change with their
        scale: a large factor leaves them the best wrong class alone.
      norm: "inf", as in the paper, 2 or 1.
      bounds: as in ``pgd``.
      key: for random starts of both passes, as in the paper.
      mask: bool [B], the examples to attack.

    Returns:
      An ``Attack`` whose losses are ``log_probability_margin``, of the logits over
      the temperature. It costs ``2 (steps + 1)`` gradients, and one forward pass if
      starts are random.

    Raises:
      TypeError, ValueError: as ``pgd``; ``temperature`` is not above 0.

    Source: PMA, arXiv:2411.15210.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import pma_attack
    >>> x, y = jnp.float32([[0.7, 0.3]]), jnp.array([0])
    >>> pma_attack(lambda x: 50 * x, x, y, eps=0.25, steps=4).broken
    Array([ True], dtype=bool)
    """

    def loss(z, y):
        return log_probability_margin(z / unit, y)

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
    rows = problem.labels[:, None].astype(x.dtype)
    unit = check_radius(temperature, rows, "temperature")
    i, half = np.arange(steps), steps // 2
    turns = np.where(i <= half, i - 1, i - half - 1) / (steps - half)
    sizes = jnp.asarray(np.append(1 + np.cos(np.pi * turns), 0), x.dtype)
    # Which objective steers each step of each pass: the last index is the margin.
    phases = np.where(i == 0, 0, np.where(i < steps / 2, 1, 3))
    phases = np.append(phases, 3) + np.array([[0], [1]]) * (np.append(phases, 3) == 1)

    def one(found, at):
        phases, key = at
        start = problem.start(None, key)
        return _ascend(problem, found, start, sizes, problem.eps, phases, unit), None

    keys = None if key is None else jax.random.split(key)
    found, _ = jax.lax.scan(one, problem.nothing_found(), (jnp.asarray(phases), keys))
    return problem.finish(found, x, look=key is not None)


def _ascend(
    problem: Problem,
    found: Found,
    start: jax.Array,
    sizes: jax.Array,
    unit: jax.Array,
    phases: jax.Array | None = None,
    temperature: ArrayLike = 1.0,
) -> Found:
    """Steps of ``sizes * unit``; the last entry is that of a step after the end."""

    def body(state, at):
        points, found = state
        size, phase = at
        objective = None if phase is None else _steered(phase, temperature)
        values = problem.evaluate(points, objective)
        found = update(found, points, values)
        step = size * unit * steepest(values.grad, problem.norm, _SHARE)
        return (problem.project(points + step), found), None

    return jax.lax.scan(body, (start, found), (sizes, phases))[0][1]


def _steered(phase, temperature):
    """The objective of a phase of PMA."""

    def keep_label(z, y):
        return -label_odds(z, y)

    def raise_best(z, y):
        others = jnp.where(numerics.is_label(z, y), -jnp.inf, z)
        return -label_odds(z, others.argmax(-1))

    objectives = [keep_label, label_odds, raise_best, log_probability_margin]

    def objective(z, y):
        return jax.lax.switch(phase, objectives, z / temperature, y)

    return objective
