"""RTO: a reward for each token from what preference optimisation has learned."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.labels import checked
from logitlab.losses.policy_gradient import operands

__all__ = ["dpo_token_rewards", "rto_token_rewards"]

NOT_LOSSES = tuple(__all__)


def dpo_token_rewards(
    dpo_logps: ArrayLike,
    ref_logps: ArrayLike,
    *,
    scale: ArrayLike = 0.05,
    clip: ArrayLike = 0.05,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""What a policy trained on preferences says each token is worth.

    .. math:: \mathrm{clip}\bigl(\beta_1 (\log \pi^{dpo}_t - \log \pi^{ref}_t),
        -c, c \bigr)

    Shapes: dpo_logps [..., T], ref_logps [..., T], mask [..., T] -> [..., T]

    Args:
      dpo_logps: log-probabilities of the tokens under the policy that DPO made.
      ref_logps: those under the reference.
      scale: beta_1.
      clip: c, at least 0; 0 does not clip.
      mask: bool, the tokens that there are.

    Returns:
      Rewards without gradient, 0 where masked, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or ``clip`` is negative.

    Numerics: relative error below 1e-6 of the log-probabilities.

    Source: RTO, Zhong et al. 2024, arXiv:2404.18922, github.com/zkshan2002/RTO.

    >>> dpo_token_rewards(jnp.float32([-1, -5]), jnp.float32([-1.5, -1]))
    Array([ 0.025, -0.05 ], dtype=float32)
    """
    checked("clip", clip, lambda c: c >= 0, "at least 0")
    lp, keep = operands.tokens(dpo_logps, mask, "dpo_logps")
    reward = scale * (lp - operands.constant(ref_logps, lp, keep, "ref_logps"))
    bound = jnp.where(clip == 0, jnp.inf, jnp.asarray(clip, lp.dtype))
    return jax.lax.stop_gradient(jnp.clip(reward, -bound, bound))


def rto_token_rewards(
    policy_logps: ArrayLike,
    ref_logps: ArrayLike,
    dpo_logps: ArrayLike,
    sequence_reward: ArrayLike,
    *,
    kl_coef: ArrayLike = 0.01,
    scale: ArrayLike = 0.05,
    clip: ArrayLike = 0.05,
    reward_clip: ArrayLike = 10.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""RTO's rewards of tokens, for ``gae`` and ``ppo_clip_tokens``.

    .. math:: r^{dpo}_t - \beta_2 (\log \pi_t - \log \pi^{ref}_t) +
        [t = \text{last}]\, \mathrm{clip}(r, -10, 10)

    Shapes: policy_logps [..., T], ref_logps [..., T], dpo_logps [..., T],
      sequence_reward [...], mask [..., T] -> [..., T]

    Args:
      policy_logps: log-probabilities of the tokens under the policy.
      ref_logps: those under the reference.
      dpo_logps: those under the policy that DPO made: see ``dpo_token_rewards``.
      sequence_reward: r of a reward model; it goes to the last token.
      kl_coef: beta_2; below 0 it counts as 0.
      scale: beta_1 of ``dpo_token_rewards``.
      clip: of ``dpo_token_rewards``.
      reward_clip: the largest reward of a sequence, positive.
      mask: bool, the tokens that there are. A sequence without any has no reward.

    Returns:
      Rewards without gradient, 0 where masked, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, ``clip`` is negative or ``reward_clip`` not
        positive.

    Numerics: relative error below 1e-6 of the log-probabilities.

    Source: RTO, Zhong et al. 2024, arXiv:2404.18922, github.com/zkshan2002/RTO.

    >>> logps = jnp.float32([-1, -2])
    >>> rto_token_rewards(logps, logps - 1, logps - 1, 20.0)
    Array([-0.01,  9.99], dtype=float32)
    """
    checked("reward_clip", reward_clip, lambda c: c > 0, "positive")
    lp, keep = operands.tokens(policy_logps, mask, "policy_logps")
    ref = operands.constant(ref_logps, lp, keep, "ref_logps")
    dpo = operands.constant(dpo_logps, lp, keep, "dpo_logps")
    r = operands.per_sequence(sequence_reward, lp, keep.any(-1), "sequence_reward")
    left = jnp.flip(jnp.cumsum(jnp.flip(keep, -1), -1), -1)  # tokens from here on
    at_end = jnp.where(
        keep & (left == 1), jnp.clip(r, -reward_clip, reward_clip)[..., None], 0
    )
    penalty = jnp.maximum(kl_coef, 0) * (lp - ref)
    dense = dpo_token_rewards(dpo, ref, scale=scale, clip=clip)
    return jax.lax.stop_gradient(dense - penalty + at_end)
