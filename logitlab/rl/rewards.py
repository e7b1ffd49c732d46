"""Transformations and combinations of rewards."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["combine_rewards_and", "lsc_transform", "reference_quantile"]


def lsc_transform(reward: ArrayLike, ref_reward: ArrayLike) -> jax.Array:
    r"""Log-sigmoid-centered (LSC) reward: log-probability of being good enough.

    Use it before adding up rewards, so that no single one can be hacked.

    .. math:: u = \log \sigma(r - r_{ref}) = -\mathrm{sp}(r_{ref} - r)

    Linear for bad answers, saturated for good ones.

    Args:
      reward: [...], of answers.
      ref_reward: what is just good enough for the prompt, of a shape that broadcasts to
        that of ``reward``; no gradient. See :func:`reference_quantile`.

    Returns:
      Utilities in nats, at most 0, float32 (float64 for float64 rewards).

    Raises:
      TypeError: an array is not floating point.
      ValueError: ``ref_reward`` does not broadcast to ``reward``.

    Source: Wang et al. 2024, arXiv:2402.00742.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import lsc_transform
    >>> print(lsc_transform(jnp.float32([-3, 1, 5]), jnp.float32(1)).round(5))
    [-4.01815 -0.69315 -0.01815]
    """
    r = numerics.promote_to_float32(reward, "reward")
    ref = numerics.promote_to_float32(ref_reward, "ref_reward").astype(r.dtype)
    try:
        ref = jnp.broadcast_to(ref, r.shape)
    except ValueError:
        raise ValueError(
            f"ref_reward has shape {ref.shape}, expected one that broadcasts to "
            f"reward, {r.shape}"
        ) from None
    return -jax.nn.softplus(jax.lax.stop_gradient(ref) - r)


def reference_quantile(
    ref_rewards: ArrayLike,
    *,
    q: ArrayLike = 0.85,
    axis: int = -1,
    gaussian: bool = False,
) -> jax.Array:
    r"""Quantile of the base policy's rewards for a prompt: LSC's reference.

    Args:
      ref_rewards: [..., N], of answers of the base policy to one prompt.
      q: the quantile, in (0, 1).
      axis: the axis of the answers.
      gaussian: from few answers, mean + 1.0364 standard deviations (for 0.85) instead.

    Returns:
      One number for each prompt, float32 (float64 for float64 rewards); 0 with a
      warning where there are no answers.

    Raises:
      TypeError: ``ref_rewards`` is not floating point.
      ValueError: no such axis, or ``q`` is outside (0, 1).

    Source: Wang et al. 2024, arXiv:2402.00742; the Gaussian form inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import reference_quantile
    >>> reference_quantile(jnp.float32([0, 1, 2, 3, 4]), q=0.75)
    Array(3., dtype=float32)
    """
    check_range("q", q, lambda q: (q > 0) & (q < 1), "a number in (0, 1)")
    r = numerics.promote_to_float32(ref_rewards, "ref_rewards")
    if not -r.ndim <= axis < r.ndim:
        raise ValueError(
            f"axis {axis} is not an axis of ref_rewards with shape {r.shape}"
        )
    r = jnp.moveaxis(r, axis, -1)
    if not r.shape[-1]:
        warnings.warn("no reference rewards: 0 is just good enough", stacklevel=2)
        return jnp.zeros(r.shape[:-1], r.dtype)
    q = jnp.asarray(q, r.dtype)
    if gaussian:
        return r.mean(-1) + jax.scipy.special.ndtri(q) * r.std(-1)
    return jnp.quantile(r, q, axis=-1)


def combine_rewards_and(
    rewards: ArrayLike, ref_rewards: ArrayLike, *, axis: int = 0
) -> jax.Array:
    r"""Combined utility of several rewards: a sum that acts as a logical AND.

    .. math:: u = \sum_k \log \sigma(r_k - r_{ref, k})

    the log-probability of that, if the properties are independent.

    Args:
      rewards: [K, ...], one for each property.
      ref_rewards: what is just good enough, of a shape that broadcasts to that of
        ``rewards``; no gradient.
      axis: the axis of the properties.

    Returns:
      Utilities in nats, at most 0, float32 (float64 for float64 rewards).

    Raises:
      TypeError: an array is not floating point.
      ValueError: no such axis, or ``ref_rewards`` does not broadcast to ``rewards``.

    Source: Wang et al. 2024, arXiv:2402.00742.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import combine_rewards_and
    >>> print(combine_rewards_and(jnp.float32([0, 0]), jnp.float32(0)).round(4))
    -1.3863
    """
    utilities = lsc_transform(rewards, ref_rewards)
    if not -utilities.ndim <= axis < utilities.ndim:
        raise ValueError(
            f"axis {axis} is not an axis of rewards with shape {utilities.shape}"
        )
    return utilities.sum(axis)
