"""Auto-PGD: steps that shrink where the loss stops rising."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

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
from logitlab.attacks.balls import (
    Bounds,
    Norm,
    as_column,
    as_rows,
    row_sums,
    steepest,
)
from logitlab.attacks.objectives import label_odds
from logitlab.attacks.unions import strongest
from logitlab.numerics.arguments import check_count, hyper

__all__ = ["apgd", "apgd_targeted"]


def apgd(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    loss: Loss = label_odds,
    eps: ArrayLike,
    steps: int = 100,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    start: ArrayLike | None = None,
    key: jax.Array | None = None,
    rho: ArrayLike = 0.75,
    targets: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Attack:
    r"""Auto-PGD: gradient ascent with momentum, without a step size to choose.

    The attack for evaluation. Steps start at 2 eps. At checkpoints, ever closer to each
    other, the step of an example is halved, and it goes back to its best point, where
    too few of the last steps raised the loss, or where neither step nor best loss has
    changed since the last checkpoint.

    .. math:: x^{+} = P \bigl(x + \tfrac34 (P(x + \alpha d) - x)
        + \tfrac14 (x - x^{-})\bigr)

    For the norm 1 the ball is three times, then twice as large for 30 % of the steps
    each. Steps move the entries with the largest slopes, as many as two thirds of those
    that the best point has changed, and shrink from eps to eps / 10.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      loss: what to maximize, ``(logits, labels) -> [B]``: of this room, or any loss of
        ``losses``.
      eps: radius of the ball, above 0, a number or [B]; may be traced, so that a curve
        over radii is one program.
      steps: how many steps, a Python integer.
      norm: "inf", 2 or 1.
      bounds: the lowest and the highest input, numbers or arrays that broadcast to the
        inputs; None for inputs without bounds, such as standardized tables.
      start: [B, ...], the first points; moved into the ball and the bounds.
      key: for random first points. ``vmap`` over keys makes restarts, which
        :func:`strongest` unites.
      rho: share of the steps that have to raise the loss, in [0, 1].
      targets: ints [B], classes to aim at: the loss gets them as third argument. Any
        wrong class still counts.
      mask: bool [B], the examples to attack. The others come back as they are.

    Returns:
      An ``Attack``, float32 (float64 for float64 inputs). It costs ``steps + 1``
      gradients, and one forward pass with ``start`` or ``key``; ``steps + 3`` and one
      for the norm 1. Points outside the ball, of the norm 1, are not in it.

    Raises:
      TypeError: ``inputs`` is not floating point or ``labels`` not integer.
      ValueError: ``eps`` or ``steps`` is not above 0; inputs that are not finite or
        outside the bounds (not checked under ``jit``); a target that is the label;
        ``start`` and ``key`` together; shapes that disagree, among them those of the
        logits.

    Source: Croce and Hein 2020, arXiv:2003.01690; l1-APGD, Croce and Hein 2021,
      arXiv:2103.01208.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import apgd
    >>> x, y = jnp.float32([[0.7, 0.3]]), jnp.array([0])
    >>> attack = jax.jit(lambda eps: apgd(lambda x: x, x, y, eps=eps, steps=5))
    >>> attack(0.125).broken, attack(0.25).broken
    (Array([False], dtype=bool), Array([ True], dtype=bool))
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
    rho = hyper("rho", rho, x.dtype, lambda r: (r >= 0) & (r <= 1), "in [0, 1]")
    found = _run(problem, problem.start(start, key), steps, rho)
    # Runs of the norm 1 begin in a larger ball, whose errors do not count.
    look = problem.norm == 1 or start is not None or key is not None
    return problem.finish(found, x, look=look)


def apgd_targeted(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    num_targets: int = 9,
    loss: Loss = label_odds,
    eps: ArrayLike,
    steps: int = 100,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    key: jax.Array | None = None,
    rho: ArrayLike = 0.75,
    mask: ArrayLike | None = None,
) -> Attack:
    r"""Auto-PGD towards each of the likeliest wrong classes, one after the other.

    Finds what an untargeted attack misses where the likeliest wrong class is not the
    one to reach.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      num_targets: how many wrong classes, by their logits at the inputs; C - 1 at most
        are taken.
      loss: what to maximize, ``(logits, labels, targets) -> [B]``: ``label_odds`` from
        two classes on, or ``dlr_targeted_loss`` from four.
      eps, steps, norm, bounds, key, rho, mask: as in ``apgd``.

    Returns:
      An ``Attack`` whose losses are ``label_odds``. It costs as many runs of ``apgd``
      as there are targets.

    Raises:
      TypeError, ValueError: as ``apgd``.

    Source: Croce and Hein 2020, arXiv:2003.01690.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import apgd_targeted
    >>> x, y = jnp.float32([[0.7, 0.3]]), jnp.array([0])
    >>> attack = jax.jit(lambda x: apgd_targeted(lambda x: x, x, y, eps=0.25, steps=5))
    >>> attack(x).broken
    Array([ True], dtype=bool)
    """
    check_count("num_targets", num_targets)
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
    rho = hyper("rho", rho, x.dtype, lambda r: (r >= 0) & (r <= 1), "in [0, 1]")
    z = logits_fn(problem.x)
    least = jnp.finfo(z.dtype).min  # of a hidden class, which is above the label
    others = jnp.maximum(z, least)
    others = jnp.where(numerics.is_label(z, problem.labels), -jnp.inf, others)
    targets = jax.lax.top_k(others, min(num_targets, z.shape[-1] - 1))[1].T
    keys = None if key is None else jax.random.split(key, len(targets))

    def one(at):
        target, key = at
        aimed = problem._replace(more=(target,))
        found = _run(aimed, problem.start(None, key), steps, rho)
        return aimed.finish(found, x, look=False)

    found = jax.lax.map(one, (targets, keys))
    return strongest(found, logits_fn, inputs, labels, mask=mask)


class _State(NamedTuple):
    points: jax.Array
    previous: jax.Array
    slope: jax.Array  # at the best point
    found: Found
    step: jax.Array
    rises: jax.Array  # steps since the last checkpoint that raised the loss
    last: jax.Array  # loss of the last point
    last_best: jax.Array  # at the last checkpoint
    reduced: jax.Array  # whether the step was halved there
    share: jax.Array  # of the entries that a step moves (norm 1)
    changed: jax.Array  # entries that the best point had changed there (norm 1)


def _run(
    problem: Problem,
    start: jax.Array,
    steps: int,
    rho: jax.Array,
    history: float = -jnp.inf,
) -> Found:
    """One run; the first loss of a run is compared with ``history``."""
    sparse = problem.norm == 1
    checkpoint = _adapt_sparsely if sparse else _adapt
    batch, dtype = problem.labels.shape, problem.x.dtype
    schedule = _schedule(steps, sparse)
    schedule["radius"] = schedule["radius"].astype(dtype)
    state = _State(
        points=start,
        previous=start,
        slope=jnp.zeros_like(start),
        found=problem.nothing_found(),
        step=problem.eps * (schedule["radius"][0] if sparse else 2),
        rises=jnp.zeros(batch, jnp.int32),
        last=jnp.zeros(batch, dtype),
        last_best=jnp.zeros(batch, dtype),
        reduced=jnp.ones(batch, bool),
        share=jnp.full(batch, 0.2, dtype),
        changed=jnp.full(batch, as_rows(start).shape[-1], jnp.int32),
    )

    def body(s, at):
        if sparse:
            again = functools.partial(_restarted, problem, radius=at["radius"])
            s = jax.lax.cond(at["again"], again, lambda s: s, s)
        values = problem.evaluate(s.points)
        if sparse:  # errors outside the ball do not count
            values = values._replace(wrong=values.wrong & (at["radius"] == 1))
        better = as_column(values.losses > s.found.losses, start)
        found = update(s.found, s.points, values)
        rises = s.rises + (values.losses > s.last)
        s = s._replace(
            slope=jnp.where(better, values.grad, s.slope),
            found=found,
            rises=jnp.where(at["first"], 0, rises),
            last=jnp.where(at["first"], history, values.losses),
            last_best=jnp.where(at["first"], found.losses, s.last_best),
        )
        s, back = checkpoint(problem, s, at, rho)
        back = as_column(back, start)
        points = jnp.where(back, found.best, s.points)
        slope = jnp.where(back, s.slope, values.grad)
        new = points + s.step * steepest(slope, problem.norm, s.share)
        new = problem.project(new, at["radius"])
        if not sparse:
            inertia = jnp.where(at["first"], 0, 0.25).astype(dtype)
            pull = inertia * (points - s.previous)
            new = problem.project(points + (1 - inertia) * (new - points) + pull)
        return s._replace(points=new, previous=points), None

    return jax.lax.scan(body, state, schedule)[0].found


def _adapt(problem, s, at, rho):
    """At a checkpoint, halves steps that no longer pay; says who goes back."""
    few = s.rises <= rho * at["period"]
    stuck = ~s.reduced & (s.last_best >= s.found.losses)
    check = at["check"]
    halve = check & (few | stuck)
    return s._replace(
        step=jnp.where(as_column(halve, s.points), s.step / 2, s.step),
        rises=jnp.where(check, 0, s.rises),
        last_best=jnp.where(check, s.found.losses, s.last_best),
        reduced=jnp.where(check, halve, s.reduced),
    ), halve


def _adapt_sparsely(problem, s, at, rho):
    """The same for the norm 1: who changes fewer entries goes back, at full steps."""
    count = _entries(s.found.best != problem.x)
    fewer = count < 0.95 * s.changed
    check = at["check"]
    largest = at["radius"] * problem.eps
    shrunk = jnp.clip(s.step / 1.5, largest / 10, largest)
    step = jnp.where(as_column(fewer, shrunk), largest, shrunk)
    return s._replace(
        step=jnp.where(check, step, s.step),
        share=jnp.where(check, _share(s, count), s.share),
        changed=jnp.where(check, count, s.changed),
    ), check & fewer


def _restarted(problem, s, radius):
    """The state at the beginning of a smaller ball, from the best point so far."""
    points = problem.project(s.found.best, radius)
    count = _entries(points != problem.x)
    return s._replace(
        points=points,
        previous=points,
        found=s.found._replace(losses=jnp.full_like(s.found.losses, -jnp.inf)),
        step=radius * problem.eps,
        share=_share(s, count),
        changed=count,
    )


def _entries(changed):
    return row_sums(as_rows(changed).astype(jnp.float32))[:, 0].astype(jnp.int32)


def _share(s, count):
    """Two thirds of the entries that were changed, as a share of all."""
    features = max(as_rows(s.points).shape[-1], 1)
    return count.astype(s.share.dtype) / (1.5 * features)


def _schedule(steps: int, sparse: bool) -> dict[str, Any]:
    """What is known before of each evaluation: it comes first, and after every step."""
    early = 3 * steps // 10 if sparse else 0
    rows: list[tuple] = []
    for radius, n in ((3.0, early), (2.0, early), (1.0, steps - 2 * early)):
        if n == 0:
            continue
        if sparse:
            period, shrink, least = (max(4 * n // 100, 1),) * 3
        else:
            period, shrink, least = (max(c * n // 100, 1) for c in (22, 3, 6))
        since, again = 0, bool(rows)
        for i in range(n + 1):
            check = i > 0 and since + 1 == period
            since = 0 if i == 0 or check else since + 1
            rows.append((i == 0, i == 0 and again, check, period, radius))
            if check and not sparse:
                period = max(period - shrink, least)
    names = "first", "again", "check", "period", "radius"
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
