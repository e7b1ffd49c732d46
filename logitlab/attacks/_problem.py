"""What all attacks share: their arguments, one evaluation, what was found so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.attacks.balls import (
    Bounds,
    Norm,
    as_column,
    check_bounds,
    check_norm,
    check_radius,
    project,
    random_point,
)
from logitlab.attacks.objectives import check_targets
from logitlab.numerics.arguments import check_count, check_same_shape

LogitsFn = Callable[[jax.Array], jax.Array]
Loss = Callable[..., jax.Array]


class Attack(NamedTuple):
    """What an attack found.

    Attributes:
      inputs: [B, ...], a misclassified point where one was found, else the point of the
        largest loss; the examples that a mask leaves out as they came.
      losses: [B], the largest loss of all points seen; 0 for those left out, NaN
        without a label.
      broken: bool [B], whether any point seen, the clean input included, was
        misclassified. A point with a NaN among its logits counts, as it does in
        ``metrics.accuracy``, but is never one of ``inputs``.
      finite: bool [B], whether all losses and gradients seen were numbers. Where they
        were not, the attack went on without them, and the example may look more robust
        than it is.
    """

    inputs: jax.Array
    losses: jax.Array
    broken: jax.Array
    finite: jax.Array


class Values(NamedTuple):
    """Losses (-inf for NaN), slopes (0 where not finite), and whether a point errs."""

    losses: jax.Array
    grad: jax.Array
    wrong: jax.Array
    usable: jax.Array  # no NaN among the logits
    finite: jax.Array


class Found(NamedTuple):
    """The best point so far and the last misclassified one."""

    best: jax.Array
    losses: jax.Array
    adversarial: jax.Array
    caught: jax.Array  # whether `adversarial` is one
    broken: jax.Array
    finite: jax.Array


class Problem(NamedTuple):
    """Checked arguments; ``labels`` is 0 at examples that are not attacked."""

    logits_fn: LogitsFn
    loss: Loss
    x: jax.Array
    labels: jax.Array
    more: tuple[jax.Array, ...]  # of targets
    active: jax.Array  # those kept that have a label
    keep: jax.Array
    eps: jax.Array
    norm: float
    box: tuple[jax.Array, jax.Array]

    def evaluate(self, points: jax.Array, objective: Loss | None = None) -> Values:
        """Loss, slope of the objective (by default the loss) and errors at points."""

        def total(points):
            z = self.logits_fn(points)
            losses = self._losses(self.loss, z)
            steered = losses if objective is None else self._losses(objective, z)
            return jnp.sum(steered), (z, losses)

        grad, (z, losses) = jax.grad(total, has_aux=True)(points)
        values = self._values(z, losses)
        good = jnp.isfinite(grad)
        finite = good.all(range(1, grad.ndim)) & values.finite
        return values._replace(grad=jnp.where(good, grad, 0), finite=finite)

    def look(self, points: jax.Array) -> Values:
        """``evaluate`` without slopes."""
        return self.judge(self.logits_fn(points))

    def judge(self, z: jax.Array) -> Values:
        """``look`` at points whose logits are known."""
        return self._values(z, self._losses(self.loss, z))

    def _losses(self, loss, z):
        losses = loss(z, self.labels, *self.more)
        if losses.shape != self.labels.shape:
            raise ValueError(
                f"loss returned shape {losses.shape}, expected one number for each "
                f"example, {self.labels.shape}"
            )
        return jnp.where(self.active, losses, 0).astype(self.x.dtype)

    def _values(self, z, losses):
        broken = jnp.isnan(z).any(-1)
        wrong = ((z.argmax(-1) != self.labels) | broken) & self.active
        finite = ~jnp.isnan(losses)
        losses = jnp.where(finite, losses, -jnp.inf)
        return Values(losses, jnp.zeros(()), wrong, ~broken, finite)

    def project(self, points: jax.Array, radius: jax.Array | float = 1.0) -> jax.Array:
        """Into the ball, of a multiple of the radius, and into the box."""
        return project(points, self.x, radius * self.eps, self.norm, self.box)

    def start(self, start: ArrayLike | None, key: jax.Array | None) -> jax.Array:
        """The first point: one given, a random one, or the input."""
        if start is not None and key is not None:
            raise ValueError("start and key are both given, expected one of them")
        if key is not None:
            return random_point(key, self.x, self.eps, self.norm, self.box)
        if start is None:
            return self.x
        check_same_shape("start", start, "inputs", self.x.shape)
        start = numerics.promote_to_float32(start, "start").astype(self.x.dtype)
        return self.project(start)

    def nothing_found(self) -> Found:
        """Before the first evaluation."""
        none = jnp.zeros(self.labels.shape, bool)
        lowest = jnp.full(self.labels.shape, -jnp.inf, self.x.dtype)
        return Found(self.x, lowest, self.x, none, none, ~none)

    def finish(self, found: Found, inputs: jax.Array, *, look: bool = True) -> Attack:
        """The result; ``look`` at the clean input if it was not the first point."""
        if look:
            clean = self.look(self.x)
            new = clean._replace(wrong=clean.wrong & ~found.broken)
            found = update(found, self.x, new)
        points = _where(found.caught, found.adversarial, found.best)
        labelled = jnp.where(self.active, found.losses, jnp.nan)
        return Attack(
            _where(self.active, points, inputs),
            jnp.where(self.keep, labelled, 0),
            found.broken,
            found.finite | ~self.active,
        )


def update(found: Found, points: jax.Array, values: Values) -> Found:
    """What is known after one more evaluation."""
    better = values.losses > found.losses
    caught = values.wrong & values.usable
    return Found(
        _where(better, points, found.best),
        jnp.maximum(values.losses, found.losses),
        _where(caught, points, found.adversarial),
        found.caught | caught,
        found.broken | values.wrong,
        found.finite & values.finite,
    )


def check_problem(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    loss: Loss,
    eps: ArrayLike,
    norm: Norm,
    bounds: Bounds,
    steps: Any = 1,
    targets: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[Problem, jax.Array]:
    """Arguments of an attack as a problem, and the inputs in the dtype of the result.

    Raises:
      TypeError: ``inputs`` is not floating point, ``labels`` not integer.
      ValueError: ``eps`` or ``steps`` is not above 0, inputs are not finite or outside
        the bounds, or shapes disagree.
    """
    check_count("steps", steps)
    x = numerics.promote_to_float32(inputs, "inputs")
    if x.ndim == 0:
        raise ValueError("inputs has shape (), expected an axis of examples")
    norm, eps, box = check_norm(norm), check_radius(eps, x), check_bounds(bounds, x)
    keep = numerics.check_mask(mask, x.shape[:1])
    z = jax.eval_shape(logits_fn, x)
    if not hasattr(z, "shape") or len(z.shape) != 2 or z.shape[0] != x.shape[0]:
        shape = getattr(z, "shape", type(z).__name__)
        raise ValueError(
            f"logits_fn returned {shape}, expected ({x.shape[0]}, classes)"
        )
    y = numerics.wide_labels(labels)
    if y.shape == keep.shape:
        y = jnp.where(keep, y, -1)
    y, known = numerics.check_labels(y, x.shape[:1], z.shape[-1])
    more: tuple[jax.Array, ...] = ()
    if targets is not None:
        t, _ = check_targets(targets, y, known, z.shape[-1])
        more = (jnp.where(known, t, 1),)  # beside the label 0
    _check_inside(x, keep, box)
    # What is left out may be NaN, and a batch may not know its parts.
    safe = jnp.where(as_column(known, x), x, jnp.clip(jnp.zeros((), x.dtype), *box))
    problem = Problem(logits_fn, loss, safe, y, more, known, keep, eps, norm, box)
    return problem, x


def _check_inside(x, keep, box):
    kept = as_column(keep, x)
    broken = kept & ~jnp.isfinite(x)
    if numerics.is_concrete(broken) and broken.any():
        raise ValueError(f"inputs has {int(broken.sum())} numbers that are not finite")
    outside = kept & ((x < box[0]) | (x > box[1]))
    if numerics.is_concrete(outside) and outside.any():
        low, high = (
            jnp.min(x, where=kept, initial=jnp.inf),
            jnp.max(x, where=kept, initial=-jnp.inf),
        )
        raise ValueError(
            f"inputs reach from {low:.4g} to {high:.4g}, outside of bounds; give "
            "bounds=(low, high), or None"
        )


def _where(chosen, a, b):
    """Whole examples of ``a`` or ``b``."""
    return jnp.where(as_column(chosen, a), a, b)
