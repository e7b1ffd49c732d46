"""Prompt selection for rollouts by the variance of their rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range


class BetaSampler(NamedTuple):
    """Beta posteriors of the success rates of prompts.

    Attributes:
      alpha: one more than the discounted number of successes, float32 [N].
      beta: one more than that of failures, float32 [N].
    """

    alpha: jax.Array
    beta: jax.Array


def variance_gain(rate: jax.Array) -> jax.Array:
    """Variance of a 0/1 reward at a success rate: what a group teaches GRPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import variance_gain
    >>> variance_gain(jnp.float32([0, 0.5, 1]))
    Array([0.  , 0.25, 0.  ], dtype=float32)
    """
    return rate * (1 - rate)


def beta_sampler_init(n: int) -> BetaSampler:
    """Prompt sampler with a uniform prior on each of n success rates.

    Raises:
      ValueError: ``n`` is below 1.

    >>> from logitlab.rl import beta_sampler_init
    >>> beta_sampler_init(2).alpha
    Array([1., 1.], dtype=float32)
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1")
    one = jnp.ones(n, jnp.float32)
    return BetaSampler(one, one)


def beta_sampler_select(
    state: BetaSampler,
    key: jax.Array,
    batch: int,
    *,
    gain: Callable[[jax.Array], jax.Array] = variance_gain,
) -> jax.Array:
    r"""Thompson sampling of prompts: those of largest gain at drawn rates.

    Use it to spend rollouts on prompts that are neither solved nor hopeless.

    .. math:: \operatorname{top}_B\; g(\tilde p_i), \quad
        \tilde p_i \sim \mathrm{Beta}(\alpha_i, \beta_i)

    Prompts that were not visited for long keep wide distributions, and their turn.

    Args:
      state: the sampler.
      key: of ``jax.random``.
      batch: B, from 1 to the number of prompts; not traced, as it is a shape.
      gain: g, of an array of success rates; ``lambda p: p * (1 - p) ** 2`` favours
        hard prompts.

    Returns:
      Indices of B different prompts, int32 [B], the most promising first.

    Raises:
      ValueError: ``batch`` is out of its range.

    Source: VADE 2025, arXiv:2511.18902; g is inferred from its abstract.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.rl import BetaSampler, beta_sampler_select
    >>> state = BetaSampler(jnp.float32([900, 90, 1]), jnp.float32([1, 90, 900]))
    >>> beta_sampler_select(state, jax.random.key(0), 1)
    Array([1], dtype=int32)
    """
    prompts = state.alpha.shape[0]
    if not 1 <= batch <= prompts:
        raise ValueError(f"batch is {batch}, expected 1 to {prompts}, the prompts")
    rate = jax.random.beta(key, state.alpha, state.beta)
    return jax.lax.top_k(gain(rate), batch)[1].astype(jnp.int32)


def beta_sampler_update(
    state: BetaSampler,
    idx: ArrayLike,
    correct: ArrayLike,
    total: ArrayLike,
    *,
    decay_sample: float = 0.95,
    decay_global: float = 0.999,
) -> BetaSampler:
    r"""The sampler after the rollouts of some prompts.

    .. math:: \alpha \leftarrow 1 + \lambda_g (\alpha - 1) \ \text{for all}, \quad
        \alpha \leftarrow 1 + \lambda_s (\alpha - 1) + c \ \text{for the visited}

    and :math:`\beta` the same way, with the G - c failures: a policy that learns makes
    old counts wrong, those of a prompt that it has just trained on most of all.

    Args:
      state: the sampler.
      idx: integers [B], the prompts that were visited.
      correct: c [B], how many rollouts of each succeeded.
      total: G, of all of them or [B].
      decay_sample: lambda_s, from 0 to 1.
      decay_global: lambda_g, from 0 to 1; 1 and 1 count without forgetting.

    Returns:
      The new state.

    Raises:
      TypeError: ``idx`` is not integer.
      ValueError: the shapes disagree, an index is no prompt's, there are more
        successes than rollouts or fewer than none, or a decay is outside [0, 1]. Under
        ``jit``, where values are unknown, such an index changes nothing.

    Source: VADE 2025, arXiv:2511.18902; decays are inferred from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import beta_sampler_init, beta_sampler_update
    >>> state = beta_sampler_init(3)
    >>> beta_sampler_update(state, jnp.array([1]), jnp.array([6]), 8).alpha
    Array([1., 7., 1.], dtype=float32)
    """
    for name, decay in (("decay_sample", decay_sample), ("decay_global", decay_global)):
        check_range(name, decay, lambda d: (d >= 0) & (d <= 1), "a number from 0 to 1")
    prompts, idx = state.alpha.shape[0], numerics.wide_labels(idx, "idx")
    correct, total = jnp.asarray(correct), jnp.asarray(total)
    if idx.ndim != 1 or correct.shape != idx.shape:
        raise ValueError(
            f"correct has shape {correct.shape}, idx {idx.shape}, expected [B] of both"
        )
    if total.shape not in ((), idx.shape):
        raise ValueError(f"total has shape {total.shape}, expected () or {idx.shape}")
    known = (idx >= 0) & (idx < prompts)
    possible = (correct >= 0) & (correct <= total)
    _refuse("idx", idx, known, f"numbers of prompts, 0 to {prompts - 1}")
    _refuse("correct", correct, possible, "0 to the rollouts in total")
    at = jnp.where(known, idx, prompts)  # beyond the end: dropped

    def move(count, news):
        count = jnp.asarray(decay_global, count.dtype) * (count - 1)
        visited = jnp.zeros(prompts, bool).at[at].set(True, mode="drop")
        fresh = jnp.asarray(decay_sample, count.dtype) * count
        count = jnp.where(visited, fresh, count)
        return 1 + count.at[at].add(news.astype(count.dtype), mode="drop")

    return BetaSampler(move(state.alpha, correct), move(state.beta, total - correct))


def _refuse(name, array, fine, expected):
    if not isinstance(fine, jax.core.Tracer) and not np.all(fine):
        raise ValueError(f"{name} holds {array[~fine][:5]}, expected {expected}")


def historical_variance_rank(history: ArrayLike) -> jax.Array:
    r"""Prompts sorted by the variance of their accuracy in training, descending.

    .. math:: \operatorname{argsort}_n \; -\sqrt{\tfrac1E \sum_e (a_{ne} - \bar a_n)^2}

    Shapes: history [N, E] -> [N]

    Args:
      history: training accuracy of N prompts after each of E epochs.

    Returns:
      Indices of the prompts, int32, the lower one first among equals.

    Raises:
      TypeError: ``history`` is not floating point.
      ValueError: ``history`` is not [N, E], or E is 0.

    Source: One-shot RLVR, Wang et al. 2025, arXiv:2504.20571.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import historical_variance_rank
    >>> historical_variance_rank(jnp.float32([[0.5, 0.5], [0, 1], [0.2, 0.6]]))
    Array([1, 2, 0], dtype=int32)
    """
    h = numerics.promote_to_float32(history, "history")
    if h.ndim != 2 or h.shape[1] == 0:
        raise ValueError(f"history has shape {h.shape}, expected [N, E]")
    return jnp.argsort(-h.std(-1), stable=True).astype(jnp.int32)
