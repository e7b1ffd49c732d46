"""Decision processes whose actions are grouped, so that fewer samples estimate them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "GroupedModel",
    "ValueIteration",
    "estimate_grouped_model",
    "group_mdp",
    "grouping_objective",
    "nested_groupings",
    "value_iteration",
]


class GroupedModel(NamedTuple):
    """A decision process whose actions are groups.

    Attributes:
      transitions: chances of the next state, [S, H, S].
      rewards: mean of each state and group, [S, H].
      counts: samples of each, [S, H]; of ``group_mdp`` the actions of each group.
    """

    transitions: jax.Array
    rewards: jax.Array
    counts: jax.Array


class ValueIteration(NamedTuple):
    """What value iteration found.

    Attributes:
      values: of the states, [S].
      action_values: [S, A].
      steps: how many were taken.
      change: the largest of the last step, in values.
    """

    values: jax.Array
    action_values: jax.Array
    steps: jax.Array
    change: jax.Array


def group_mdp(
    transitions: ArrayLike,
    rewards: ArrayLike,
    grouping: ArrayLike,
    *,
    num_groups: int,
) -> GroupedModel:
    r"""The decision process in which a group plays any of its actions, all alike.

    Use it to see what a grouping loses where the process is known.

    .. math:: P(s' | s, h) = \frac{1}{|h|} \sum_{a \in h} P(s' | s, a)

    Shapes: transitions [S, A, S], rewards [S, A], grouping [A]
      -> ([S, H, S], [S, H], [S, H])

    Args:
      transitions: chances of the next state; the last axis adds up to 1.
      rewards: mean reward of each state and action.
      grouping: ints in ``[0, num_groups)``, the group of each action.
      num_groups: H, not traced.

    Raises:
      TypeError: an array has the wrong dtype.
      ValueError: wrong shapes, transitions that are no distributions, a group out of
        range, or one without actions (NaN under ``jit``).

    Source: Action grouping, ICLR 2024, arXiv:2306.12981; inferred from the abstract.
    """
    p, r = _process(transitions, rewards)
    groups = _groups(grouping, p.shape[1], num_groups)
    member = jax.nn.one_hot(groups, num_groups, dtype=p.dtype)
    size = member.sum(0)
    if numerics.is_concrete(size) and (size == 0).any():
        raise ValueError(f"grouping has no action in group {int(jnp.argmin(size))}")
    share = member / size[None]
    counts = jnp.broadcast_to(size[None], (p.shape[0], num_groups))
    return GroupedModel(jnp.einsum("sat,ah->sht", p, share), r @ share, counts)


def estimate_grouped_model(
    states: ArrayLike,
    actions: ArrayLike,
    next_states: ArrayLike,
    rewards: ArrayLike,
    grouping: ArrayLike,
    *,
    num_states: int,
    num_groups: int,
    prior_reward: ArrayLike | None = None,
) -> GroupedModel:
    r"""Means of samples, those of a group's actions together.

    Use it where samples are too few for every action: the fewer groups, the more
    samples each has, and the less its actions have in common.

    .. math:: \hat r(s, h) = \frac{1}{n_{sh}} \sum_{i: s_i = s, a_i \in h} r_i

    Shapes: states [N], actions [N], next_states [N], rewards [N], grouping [A]
      -> ([S, H, S], [S, H], [S, H])

    Args:
      states: ints in ``[0, num_states)``.
      actions: ints in ``[0, A)``.
      next_states: ints in ``[0, num_states)``.
      rewards: of the samples.
      grouping: ints in ``[0, num_groups)``; the identity for no grouping.
      num_states: S, not traced.
      num_groups: H, not traced.
      prior_reward: of a state and group without samples, from which all next states
        are alike; the mean of all rewards if None, ``-inf`` to never play it.

    Raises:
      TypeError: an array has the wrong dtype.
      ValueError: wrong shapes, or a number out of range (NaN under ``jit``).

    Source: Action grouping, ICLR 2024, arXiv:2306.12981; inferred from the abstract.
    """
    r = numerics.promote_to_float32(rewards, "rewards")
    if r.ndim != 1 or not r.size:
        raise ValueError(f"rewards has shape {r.shape}, expected [N] with samples")
    many = np.shape(grouping)[0] if np.ndim(grouping) == 1 else 0
    groups = _groups(grouping, many, num_groups)
    s, known_s = numerics.check_labels(states, r.shape, num_states)
    a, known_a = numerics.check_labels(actions, r.shape, many)
    t, known_t = numerics.check_labels(next_states, r.shape, num_states)
    known = (known_s & known_a & known_t).all()
    cell = s * num_groups + groups[a]
    cells = num_states * num_groups
    shape = num_states, num_groups
    counts = jnp.zeros(cells, jnp.int32).at[cell].add(1).reshape(shape)
    many_of = jnp.maximum(counts, 1).astype(r.dtype)
    total = jnp.zeros(cells, r.dtype).at[cell].add(r).reshape(shape)
    moves = jnp.zeros((cells, num_states), r.dtype).at[cell, t].add(1)
    moves = moves.reshape(*shape, num_states) / many_of[..., None]
    prior = (
        r.mean()
        if prior_reward is None
        else hyper("prior_reward", prior_reward, r.dtype)
    )
    seen = counts > 0
    mean = jnp.where(known, jnp.where(seen, total / many_of, prior), jnp.nan)
    return GroupedModel(jnp.where(seen[..., None], moves, 1 / num_states), mean, counts)


def value_iteration(
    transitions: ArrayLike,
    rewards: ArrayLike,
    *,
    gamma: ArrayLike,
    max_steps: int = 10_000,
    tol: ArrayLike | None = None,
) -> ValueIteration:
    r"""Values of the best policy, by the fixed point of Bellman's equation.

    Use it on processes small enough for tables.

    .. math:: Q(s, a) = r(s, a) + \gamma \sum_{s'} P(s' | s, a) \max_{a'} Q(s', a')

    Shapes: transitions [S, A, S], rewards [S, A] -> ([S], [S, A], [], [])

    Args:
      transitions: chances of the next state; the last axis adds up to 1.
      rewards: mean reward; ``-inf`` hides an action, of which a state needs one more.
      gamma: discount, in [0, 1); may be traced.
      max_steps: the most there are.
      tol: the largest error of the values at which to stop; 1e-5, for float64 1e-10, if
        None, times the largest reward over ``1 - gamma``.

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, transitions that are no distributions, or ``gamma``
        outside [0, 1).

    Source: Bellman 1957.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import value_iteration
    >>> stay = jnp.ones((1, 2, 1))
    >>> found = value_iteration(stay, jnp.float32([[0, 1]]), gamma=0.5)
    >>> print(f"{found.values[0]:.3f}")
    2.000
    """
    p, r = _process(transitions, rewards)
    gamma = hyper("gamma", gamma, r.dtype, lambda g: (g >= 0) & (g < 1), "in [0, 1)")
    if tol is None:
        tol = 1e-10 if r.dtype == jnp.float64 else 1e-5
    largest = jnp.abs(jnp.where(r > -jnp.inf, r, 0)).max()
    # A step of this size leaves an error of gamma / (1 - gamma) times as much.
    enough = tol * jnp.maximum(largest, jnp.finfo(r.dtype).tiny)

    def backup(values):
        return r + gamma * jnp.einsum("sat,t->sa", p, values)

    def unfinished(carry):
        _, change, count = carry
        return (change > enough) & (count < max_steps)

    def step(carry):
        values, _, count = carry
        new = backup(values).max(1)
        return new, jnp.abs(new - values).max(), count + 1

    none = jnp.zeros((), jnp.int32)
    start = jnp.zeros(r.shape[0], r.dtype), jnp.asarray(jnp.inf, r.dtype), none
    values, change, count = jax.lax.while_loop(unfinished, step, start)
    return ValueIteration(values, backup(values), count, change)


def grouping_objective(
    transitions: ArrayLike,
    rewards: ArrayLike,
    grouping: ArrayLike,
    samples: ArrayLike,
    *,
    num_groups: int,
    gamma: ArrayLike,
    noise: ArrayLike = 1.0,
) -> jax.Array:
    r"""Bound on what a grouping loses: by its actions' differences, and by chance.

    Use it to choose among ``nested_groupings``: the first part falls with the number of
    groups H, the second rises.

    .. math:: \frac{2 \beta_r}{1 - \gamma} + \frac{2 \gamma R \beta_P}{(1 - \gamma)^2}
        + \frac{2 \sigma}{1 - \gamma} \sqrt{\frac{2 S H \log(2 S H)}{n}}

    with :math:`\beta_r` and :math:`\beta_P` the largest distances of an action from
    its group, of rewards and in total variation, and R the range of rewards.

    Shapes: transitions [S, A, S], rewards [S, A], grouping [A], samples [] -> []

    Args:
      transitions: chances of the next state, known or estimated.
      rewards: mean reward of each state and action.
      grouping: ints in ``[0, num_groups)``.
      samples: n, of all states and actions together.
      num_groups: H, not traced.
      gamma: discount, in [0, 1).
      noise: sigma, of an estimated action value from one sample.

    Raises:
      TypeError: an array has the wrong dtype.
      ValueError: see ``group_mdp``; or ``gamma`` outside [0, 1).

    Source: Action grouping, ICLR 2024, arXiv:2306.12981; form and constants are
      inferred from the abstract.
    """
    p, r = _process(transitions, rewards)
    gamma = hyper("gamma", gamma, r.dtype, lambda g: (g >= 0) & (g < 1), "in [0, 1)")
    noise = hyper("noise", noise, r.dtype, lambda v: v >= 0, "at least 0")
    n = hyper("samples", samples, r.dtype, lambda v: v > 0, "above 0")
    model = group_mdp(p, r, grouping, num_groups=num_groups)
    groups = jnp.asarray(grouping)
    beta_r = jnp.abs(r - model.rewards[:, groups]).max()
    beta_p = jnp.abs(p - model.transitions[:, groups]).sum(-1).max() / 2
    span = r.max() - r.min()
    cells = num_groups * r.shape[0]
    chance = noise * jnp.sqrt(2 * cells * np.log(2 * cells) / n)
    lost = beta_r + chance + gamma * span * beta_p / (1 - gamma)
    return 2 * lost / (1 - gamma)


def nested_groupings(distance: ArrayLike, sizes: Sequence[int]) -> np.ndarray:
    """Groupings of actions, each of which merges groups of the one before.

    Use it to have few candidates for ``grouping_objective``. Groups whose actions are
    nearest on average are merged first. Runs on the host.

    Shapes: distance [A, A] -> [K, A]

    Args:
      distance: of actions from each other, symmetric.
      sizes: how many groups, falling.

    Returns:
      Ints, for each size the group of each action, numbered by their first action.

    Raises:
      ValueError: wrong shape, or sizes that do not fall or are out of range.

    Source: average linkage, Sokal and Michener 1958.

    >>> from logitlab.estimators import nested_groupings
    >>> nested_groupings([[0, 9, 1], [9, 0, 9], [1, 9, 0]], (3, 2)).tolist()
    [[0, 1, 2], [0, 1, 0]]
    """
    d = np.array(distance, float)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not len(d):
        raise ValueError(f"distance has shape {d.shape}, expected [A, A]")
    sizes = [int(size) for size in sizes]
    falling = all(a > b for a, b in zip(sizes, sizes[1:], strict=False))
    if not sizes or not falling or sizes[0] > len(d) or sizes[-1] < 1:
        raise ValueError(
            f"sizes is {tuple(sizes)}, expected falling numbers from {len(d)} to 1"
        )
    groups = np.arange(len(d))
    weight = np.ones(len(d))
    np.fill_diagonal(d, np.inf)
    found = []
    for size in range(len(d), 0, -1):
        if size in sizes:
            found.append(np.unique(groups, return_inverse=True)[1])
        if size == sizes[-1]:
            break
        i, j = sorted(np.unravel_index(d.argmin(), d.shape))
        total = weight[i] + weight[j]
        d[i] = d[:, i] = (weight[i] * d[i] + weight[j] * d[j]) / total
        d[j] = d[:, j] = d[i, i] = np.inf
        weight[i], groups[groups == j] = total, i
    return np.stack(found)


def _process(transitions, rewards):
    p = numerics.promote_to_float32(transitions, "transitions")
    r = numerics.promote_to_float32(rewards, "rewards").astype(p.dtype)
    if p.ndim != 3 or p.shape[0] != p.shape[2] or not p.size:
        raise ValueError(f"transitions has shape {p.shape}, expected [S, A, S]")
    if r.shape != p.shape[:2]:
        raise ValueError(f"rewards has shape {r.shape}, expected {p.shape[:2]}")
    if numerics.is_concrete(p):
        off = max(float(jnp.abs(p.sum(-1) - 1).max()), -float(p.min()))
        if not off < 1e-3:
            raise ValueError(
                f"transitions are no distributions over the last axis: off by {off:.3g}"
            )
    return p, r


def _groups(grouping, actions, num_groups):
    check_count("num_groups", num_groups)
    groups = jnp.asarray(grouping)
    if groups.shape != (actions,):
        raise ValueError(f"grouping has shape {groups.shape}, expected ({actions},)")
    if not jnp.issubdtype(groups.dtype, jnp.integer):
        raise TypeError(f"grouping has dtype {groups.dtype}, expected integer")
    if numerics.is_concrete(groups) and (
        (groups < 0).any() or (groups >= num_groups).any()
    ):
        raise ValueError(
            f"grouping is from {groups.min()} to {groups.max()}, expected ints from 0 "
            f"to {num_groups - 1}"
        )
    return groups
