"""Bandits of several tasks that share their features: optimism over a finite class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = ["GFUCBState", "gfucb_init", "gfucb_select", "gfucb_update"]


class GFUCBState(NamedTuple):
    """Sums of the past, for each candidate of the features and each task.

    Attributes:
      gram: identity plus the outer products of features, [L, M, K, K].
      moment: sums of features times rewards, [L, M, K].
      square: sums of squared rewards, [M].
    """

    gram: jax.Array
    moment: jax.Array
    square: jax.Array


def gfucb_init(
    num_tasks: int, num_features: int, dim: int, *, dtype: DTypeLike | None = None
) -> GFUCBState:
    """State before the first round.

    Args:
      num_tasks: M.
      num_features: L, how many candidates of the shared features there are.
      dim: K, of each of them.
      dtype: JAX's default float if None.

    Raises:
      ValueError: a count below 1.

    Source: Provable General Function Class Representation Learning in Multitask Bandits
      and MDPs, Lu et al. 2022, arXiv:2205.15701.
    """
    for name, count in (
        ("num_tasks", num_tasks),
        ("num_features", num_features),
        ("dim", dim),
    ):
        check_count(name, count)
    dtype = float if dtype is None else dtype
    shape = num_features, num_tasks, dim
    return GFUCBState(
        jnp.broadcast_to(jnp.eye(dim, dtype=dtype), (*shape, dim)),
        jnp.zeros(shape, dtype),
        jnp.zeros(num_tasks, dtype),
    )


def gfucb_select(
    state: GFUCBState,
    contexts: ArrayLike,
    *,
    noise: ArrayLike,
    scale: ArrayLike = 1.0,
    shared: bool = True,
) -> jax.Array:
    r"""The arm of each task that may be the best, under features that may be right.

    Use it where tasks are known to share features, and which of a finite number of
    candidates these are is not: a task learns of the features from the others' rewards.

    .. math:: \max_{\phi: R(\phi) \le \min R + c \sigma^2 (2 \log L + M K)}
        \phi(a) \cdot \hat w_m + \sqrt{c}\, \sigma \sqrt{\phi(a)^T G_m^{-1} \phi(a)},
        \quad R(\phi) = \sum_m \Bigl(\sum y^2 - b_m^T G_m^{-1} b_m\Bigr)

    Shapes: contexts [L, M, A, K] -> [M]

    Args:
      state: of ``gfucb_init`` or the last update.
      contexts: the features of each arm, by each candidate.
      noise: sigma, of a reward.
      scale: c, of the confidence set; smaller is bolder.
      shared: False tests candidates by each task's own rewards, for comparison.

    Returns:
      Arms, int32; of equal ones the first.

    Raises:
      TypeError: ``contexts`` is not floating point.
      ValueError: the wrong shape, or ``noise`` or ``scale`` negative.

    Source: Lu et al. 2022, arXiv:2205.15701; the constants are inferred.
    """
    x = _contexts(state, contexts)
    gram, moment, square = state
    sigma = hyper("noise", noise, x.dtype, lambda v: v >= 0, "at least 0")
    c = hyper("scale", scale, x.dtype, lambda v: v >= 0, "at least 0")
    many, tasks, dim = moment.shape
    weights = jnp.linalg.solve(gram, moment[..., None])[..., 0]
    residual = square[None] - jnp.sum(weights * moment, -1)  # [L, M]
    size = dim
    if shared:
        residual, size = residual.sum(1, keepdims=True), tasks * dim
    room = c * sigma**2 * (2 * jnp.log(many) + size)
    kept = residual <= residual.min(0, keepdims=True) + room
    spread = jnp.einsum("lmak,lmka->lma", x, jnp.linalg.solve(gram, x.mT))
    index = jnp.einsum("lmak,lmk->lma", x, weights)
    index = index + jnp.sqrt(c) * sigma * jnp.sqrt(jnp.maximum(spread, 0))
    best = jnp.where(kept[..., None], index, -jnp.inf).max(0)
    return best.argmax(-1).astype(jnp.int32)


def gfucb_update(
    state: GFUCBState, contexts: ArrayLike, actions: ArrayLike, rewards: ArrayLike
) -> GFUCBState:
    """State after a round, in which every task played one arm.

    Shapes: contexts [L, M, A, K], actions [M], rewards [M] -> state

    Args:
      state: of ``gfucb_init`` or the last update.
      contexts: as ``gfucb_select`` had them.
      actions: of ``gfucb_select``, or any others.
      rewards: what they gave.

    Raises:
      TypeError: an array has the wrong dtype.
      ValueError: the wrong shape, or an action out of range (NaN under ``jit``).

    Source: Lu et al. 2022, arXiv:2205.15701.
    """
    x = _contexts(state, contexts)
    y = numerics.promote_to_float32(rewards, "rewards").astype(x.dtype)
    tasks = x.shape[1]
    if y.shape != (tasks,):
        raise ValueError(f"rewards has shape {y.shape}, expected ({tasks},)")
    arms, known = numerics.check_labels(actions, (tasks,), x.shape[2])
    y = jnp.where(known, y, jnp.nan)
    played = jnp.take_along_axis(x, arms[None, :, None, None], 2)[:, :, 0]
    return GFUCBState(
        state.gram + played[..., :, None] * played[..., None, :],
        state.moment + played * y[None, :, None],
        state.square + y**2,
    )


def _contexts(state, contexts):
    dtype = state.moment.dtype
    x = numerics.promote_to_float32(contexts, "contexts").astype(dtype)
    many, tasks, dim = state.moment.shape
    if x.ndim != 4 or (*x.shape[:2], x.shape[3]) != (many, tasks, dim):
        raise ValueError(
            f"contexts has shape {x.shape}, expected [{many}, {tasks}, A, {dim}]"
        )
    return x
