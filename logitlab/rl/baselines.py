"""Running means and batch estimates that rewards are compared with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import arguments

__all__ = ["RunningMean", "kto_kl_estimate", "running_mean_update"]


class RunningMean(NamedTuple):
    """Mean of all rewards so far and their number; ``RunningMean()`` is the start."""

    mean: ArrayLike = 0.0
    count: ArrayLike = 0  # type: ignore[assignment]  # hides tuple.count


def kto_kl_estimate(
    mismatched_logps: ArrayLike,
    mismatched_ref_logps: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""KTO's reference point: estimate of the KL divergence from a batch.

    .. math:: z_0 = \max\Bigl(0, \mathrm{mean}\, \log
        \frac{\pi(y_{i-1} | x_i)}{\pi_{ref}(y_{i-1} | x_i)}\Bigr)

    of prompts with the answers of their neighbours in the batch.

    Shapes: mismatched_logps [B], mismatched_ref_logps [B], mask [B] -> []

    Args:
      mismatched_logps: log-probabilities of these answers, summed over tokens.
      mismatched_ref_logps: the same under the reference.
      mask: bool, the pairs that take part.

    Returns:
      Nats without gradient, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or the batch is of one, which has no neighbour.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import kto_kl_estimate
    >>> kto_kl_estimate(jnp.float32([-3, -5]), jnp.float32([-4, -5]))
    Array(0.5, dtype=float32)
    """
    logps, ref = arguments.logps_like(
        mismatched_logps=mismatched_logps, mismatched_ref_logps=mismatched_ref_logps
    )
    if logps.ndim != 1 or logps.size == 1:
        raise ValueError(
            f"mismatched_logps has shape {logps.shape}, expected (B,) with B at least 2"
        )
    mean = numerics.masked_mean(logps - ref, mask)
    return jax.lax.stop_gradient(jax.nn.relu(mean))


def running_mean_update(
    state: RunningMean, rewards: ArrayLike, *, mask: ArrayLike | None = None
) -> RunningMean:
    r"""Running mean of all rewards after another batch: BCO's shift.

    .. math:: \mu' = \mu + (\bar r - \mu) \frac{B}{n + B}, \quad n' = n + B

    Update first, then give ``state.mean`` to the loss of the same batch.

    Args:
      state: the last one, :class:`RunningMean` without arguments at the start.
      rewards: [...], of this batch, from :func:`implicit_reward`.
      mask: bool, [...], the rewards that take part.

    Returns:
      The new state, without gradient: the mean in the dtype of the promoted rewards,
      the number in its own, by default int32 (in float32 it would stand still at 2^24).

    Raises:
      TypeError: ``rewards`` is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import RunningMean, running_mean_update
    >>> state = running_mean_update(RunningMean(), jnp.float32([1, 3]))
    >>> running_mean_update(state, jnp.float32([5]))[0]
    Array(3., dtype=float32)
    """
    rewards = jax.lax.stop_gradient(numerics.promote_to_float32(rewards, "rewards"))
    mean, count = jnp.asarray(state.mean, rewards.dtype), jnp.asarray(state.count)
    batch = numerics.check_mask(mask, rewards.shape).sum(dtype=jnp.int32)
    total = count + batch.astype(count.dtype)
    share = (batch / jnp.maximum(total, 1)).astype(rewards.dtype)
    return RunningMean(
        mean + (numerics.masked_mean(rewards, mask) - mean) * share, total
    )
