"""Several attacks as one: the worst that any of them did to an example."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.attacks._problem import Attack, LogitsFn, check_problem
from logitlab.attacks.balls import as_column
from logitlab.attacks.objectives import label_odds

__all__ = ["max_of_attacks", "strongest"]


def strongest(
    attacks: Sequence[Attack] | Attack,
    logits_fn: LogitsFn,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Attack:
    r"""The union of attacks: of each example, the worst point that any of them found.

    For robustness against several attacks, norms or restarts at once. A misclassified
    point goes before others; among these, and among others, the one with the largest
    ``label_odds``, as the losses of different attacks do not compare. The clean inputs
    take part.

    Args:
      attacks: a list, or one ``Attack`` with an axis in front, as ``vmap`` over keys
        makes it.
      logits_fn: the attacked function, called once for each attack and for the inputs.
      inputs: [B, ...], those that were attacked.
      labels: ints [B], or negative for an example without a label.
      mask: bool [B], the examples that were attacked.

    Returns:
      An ``Attack`` whose losses are the largest ``label_odds``, and which is finite
      where all attacks were.

    Raises:
      TypeError: ``inputs`` is not floating point or ``labels`` not integer.
      ValueError: there are no attacks, or the shapes disagree.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import pgd, strongest
    >>> x, y = jnp.float32([[0.7, 0.3], [0.2, 0.8]]), jnp.array([0, 1])
    >>> weak, strong = (pgd(lambda x: x, x, y, eps=e, steps=2) for e in (0.1, 0.25))
    >>> strongest([weak, strong], lambda x: x, x, y).broken
    Array([ True, False], dtype=bool)
    """
    if not isinstance(attacks, Attack):
        if not attacks:
            raise ValueError("attacks is empty, expected at least one")
        attacks = jax.tree.map(lambda *fields: jnp.stack(fields), *attacks)
    problem, x = check_problem(
        logits_fn,
        inputs,
        labels,
        loss=label_odds,
        eps=1.0,
        norm="inf",
        bounds=None,
        mask=mask,
    )
    if attacks.inputs.shape[1:] != x.shape:
        raise ValueError(
            f"attacks hold inputs of shape {attacks.inputs.shape[1:]}, expected those "
            f"of inputs, {x.shape}"
        )
    attacked = as_column(problem.active, x)[None]
    points = jnp.where(attacked, attacks.inputs.astype(x.dtype), problem.x[None])
    points = jnp.concatenate([problem.x[None], points])
    values = jax.lax.map(problem.look, points)
    flags = jnp.concatenate([values.wrong[:1], attacks.broken & problem.active[None]])
    caught = values.wrong & values.usable
    rank = caught.astype(jnp.int32) + (caught | flags)
    score = jnp.where(rank == rank.max(0)[None], values.losses, -jnp.inf)
    at = jnp.argmax(score, 0)
    best = jnp.take_along_axis(points, as_column(at, x)[None], 0)[0]
    labelled = jnp.where(problem.active, values.losses.max(0), jnp.nan)
    return Attack(
        jnp.where(attacked[0], best, x),
        jnp.where(problem.keep, labelled, 0),
        (flags | values.wrong).any(0),
        (attacks.finite.all(0) & values.finite.all(0)) | ~problem.active,
    )


def max_of_attacks(losses: ArrayLike) -> jax.Array:
    r"""The largest of several attacks' losses of each example.

    To train against the worst of several norms (MAX): the mean of this over the batch.
    Only the attack with the largest loss, the first of equals, gets a gradient.

    .. math:: \max_k \ell_{ki}

    Shapes: losses [K, B] -> [B]

    Args:
      losses: one row for each attack, unreduced.

    Raises:
      TypeError: ``losses`` is not floating point.
      ValueError: there is no axis of attacks, or it is empty.

    Source: RAMP, arXiv:2402.06827; Tramèr and Boneh 2019, arXiv:1904.13000.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import max_of_attacks
    >>> max_of_attacks(jnp.float32([[1, 5], [2, 3]]))
    Array([2., 5.], dtype=float32)
    """
    losses = numerics.promote_to_float32(losses, "losses")
    if losses.ndim < 1 or losses.shape[0] == 0:
        raise ValueError(f"losses has shape {losses.shape}, expected [K, B] with K > 0")
    return jnp.take_along_axis(losses, jnp.argmax(losses, 0)[None], 0)[0]
