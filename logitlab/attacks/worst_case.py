"""Robust accuracy by several attacks in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.attacks._problem import Attack, LogitsFn, Problem, check_problem
from logitlab.attacks.auto_pgd import apgd, apgd_targeted
from logitlab.attacks.balls import Bounds, Norm, as_rows, steepest
from logitlab.attacks.fixed_steps import pma_attack
from logitlab.attacks.objectives import label_odds
from logitlab.attacks.random_search import square_attack
from logitlab.attacks.unions import strongest
from logitlab.metrics import Mean, mean_of
from logitlab.numerics.arguments import check_count

__all__ = ["RobustAccuracy", "robust_accuracy"]

# Logits of the clean inputs are this far from their mean, on average, where objectives
# see them: attacks on small networks for digits broke most between 2 and 6.
_SPREAD = 3.0


class RobustAccuracy(NamedTuple):
    """Accuracy on inputs and on attacked inputs, and whether to believe it.

    Attributes:
      clean: share of the inputs that are classified correctly.
      robust: share of those that no attack broke: an upper bound of the true one.
      attack: the worst point of each example, as :func:`strongest` says.
      broken: name of each attack -> bool [B], what it broke by itself. A wrong clean
        input is broken by all.
      by_gradients: share of the correct inputs that attacks with gradients broke.
      by_square: share of them that Square broke, which takes none.
      flat: share of the correct inputs at which the loss has no slope, or does not
        change along a step of the size of the radius.
      masked: bool, whether gradients seem to be masked: ``by_square`` is more than 1 %
        above ``by_gradients``, or ``flat`` is above 10 %. Then ``robust`` says little:
        attack a smooth stand-in of the function, or give Square more queries.
      gradients: how many gradients of each example were taken.
      queries: how many forward passes of each example were taken beside these.
    """

    clean: Mean
    robust: Mean
    attack: Attack
    broken: dict[str, jax.Array]
    by_gradients: Mean
    by_square: Mean
    flat: Mean
    masked: jax.Array
    gradients: int
    queries: int


def robust_accuracy(
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    eps: ArrayLike,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
    steps: int = 100,
    num_targets: int = 9,
    queries: int = 1000,
    mask: ArrayLike | None = None,
) -> RobustAccuracy:
    r"""Accuracy under the worst of four attacks, for two classes or more.

    The counterpart of AutoAttack: ``apgd`` and ``apgd_targeted`` on log-odds,
    ``pma_attack``, and ``square_attack``, which takes no gradients. It also says
    whether gradients are masked, in which case the first three prove nothing.

    Logits times a constant are as robust as before, and found to be so: the objectives
    see the logits of each example over a temperature, which is the average distance of
    its clean logits from their mean, divided by 3.

    Args:
      logits_fn: inputs [B, ...] to logits [B, C], each example by itself and the same
        at every call: no dropout, no noise.
      inputs: [B, ...], floats within the bounds.
      labels: ints [B] in ``[0, C)``, or negative for an example without a label.
      key: of the random starts and of Square.
      eps: radius of the ball, above 0, a number or [B]; may be traced.
      norm: "inf", 2 or 1.
      bounds: as in ``pgd``.
      steps: of each gradient attack, a Python integer.
      num_targets: wrong classes that ``apgd_targeted`` aims at, C - 1 at most.
      queries: steps of Square.
      mask: bool [B], the examples that count.

    Returns:
      A ``RobustAccuracy``; its means add up over batches. With the defaults and ten
      classes it takes about 1,200 gradients of each example: wrap it in ``jax.jit`` for
      more than one batch.

    Raises:
      TypeError, ValueError: as ``pgd``.

    Source: AutoAttack, Croce and Hein 2020, arXiv:2003.01690.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import robust_accuracy
    >>> x, y = jnp.float32([[0.7, 0.3], [0.2, 0.8]]), jnp.array([0, 1])
    >>> options = dict(eps=0.25, key=jax.random.key(0), steps=5, queries=9)
    >>> found = jax.jit(lambda x: robust_accuracy(lambda x: x, x, y, **options))(x)
    >>> float(found.clean), float(found.robust), bool(found.masked)
    (1.0, 0.5, False)
    """
    check_count("queries", queries)
    check_count("num_targets", num_targets)
    problem, _ = check_problem(
        logits_fn,
        inputs,
        labels,
        loss=label_odds,
        eps=eps,
        norm=norm,
        bounds=bounds,
        steps=steps,
        mask=mask,
    )
    common: dict[str, Any] = dict(eps=eps, norm=norm, bounds=bounds, mask=mask)
    arguments = logits_fn, inputs, labels
    clean = logits_fn(problem.x)
    temperature = _temperature(clean)

    def odds(z, y, *targets):
        return label_odds(z / temperature[:, None], y, *targets)

    keys = jax.random.split(key, 4)
    found = {
        "apgd": apgd(*arguments, key=keys[0], steps=steps, loss=odds, **common),
        "apgd_targeted": apgd_targeted(
            *arguments,
            key=keys[1],
            steps=steps,
            num_targets=num_targets,
            loss=odds,
            **common,
        ),
        "pma": pma_attack(
            *arguments, key=keys[2], steps=steps, temperature=temperature, **common
        ),
        "square": square_attack(
            *arguments, key=keys[3], steps=queries, loss=odds, **common
        ),
    }
    worst = strongest(list(found.values()), *arguments, mask=mask)
    correct = ~problem.judge(clean).wrong & problem.active
    broken = {name: attack.broken for name, attack in found.items()}
    sloped = broken["apgd"] | broken["apgd_targeted"] | broken["pma"]
    by_gradients = mean_of(sloped, correct)
    by_square = mean_of(broken["square"], correct)
    flat = mean_of(_is_flat(problem), correct)
    classes = jax.eval_shape(logits_fn, problem.x).shape[-1]
    targets, extra = min(num_targets, classes - 1), 2 * (problem.norm == 1)
    return RobustAccuracy(
        clean=mean_of(correct, problem.active),
        robust=mean_of(correct & ~worst.broken, problem.active),
        attack=worst,
        broken=broken,
        by_gradients=by_gradients,
        by_square=by_square,
        flat=flat,
        masked=(by_square.sum > by_gradients.sum + 0.01 * flat.count)
        | (flat.sum > 0.1 * flat.count),
        gradients=(1 + targets) * (steps + 1 + extra) + 2 * (steps + 1) + 1,
        queries=queries + targets + 13,  # looks at starts, ends and targets
    )


def _temperature(z: jax.Array) -> jax.Array:
    """What brings the logits of an example to a common scale, [B]; 1 for equal ones."""
    z = jax.lax.stop_gradient(numerics.promote_to_float32(z, "logits"))
    finite = jnp.isfinite(z)
    away = jnp.abs(z - jnp.mean(z, -1, keepdims=True, where=finite))
    spread = jnp.mean(away, -1, where=finite) / _SPREAD
    return jnp.where((spread > 0) & jnp.isfinite(spread), spread, 1.0)


def _is_flat(problem: Problem):
    """Whether the loss has no slope, or a step along it changes nothing."""
    values = problem.evaluate(problem.x)
    step = problem.eps * steepest(values.grad, problem.norm, 0.2)
    there = problem.project(problem.x + step)
    moved = as_rows(there != problem.x).any(-1)
    still = moved & (problem.look(there).losses == values.losses)
    return still | ~as_rows(values.grad != 0).any(-1)
