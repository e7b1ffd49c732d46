"""RTO: a reward for each token from what preference optimisation has learned."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_same_shape, hyper, weighted
from logitlab.rl import _operands as operands

__all__ = ["contrastive_dpo_reward", "dpo_token_rewards", "rto_token_rewards"]


def dpo_token_rewards(
    dpo_logps: ArrayLike,
    ref_logps: ArrayLike,
    *,
    scale: ArrayLike = 0.05,
    clip: ArrayLike = 0.05,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Token rewards from the log-ratio of a DPO policy to its reference.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import dpo_token_rewards
    >>> dpo_token_rewards(jnp.float32([-1, -5]), jnp.float32([-1.5, -1]))
    Array([ 0.025, -0.05 ], dtype=float32)
    """
    lp, keep = operands.tokens(dpo_logps, mask, "dpo_logps")
    clip = hyper("clip", clip, lp.dtype, lambda c: c >= 0, "at least 0")
    ref = operands.constant(ref_logps, lp, keep, "ref_logps")
    reward = weighted(scale, lp - ref)
    bound = jnp.where(clip == 0, jnp.inf, clip)
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
    r"""RTO's rewards of tokens, for ``gae`` and ``ppo_clip_loss``.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import rto_token_rewards
    >>> logps = jnp.float32([-1, -2])
    >>> rto_token_rewards(logps, logps - 1, logps - 1, 20.0)
    Array([-0.01,  9.99], dtype=float32)
    """
    lp, keep = operands.tokens(policy_logps, mask, "policy_logps")
    top = hyper("reward_clip", reward_clip, lp.dtype, lambda c: c > 0, "positive")
    ref = operands.constant(ref_logps, lp, keep, "ref_logps")
    dpo = operands.constant(dpo_logps, lp, keep, "dpo_logps")
    r = operands.per_sequence(sequence_reward, lp, keep.any(-1), "sequence_reward")
    left = jnp.flip(jnp.cumsum(jnp.flip(keep, -1), -1), -1)  # tokens from here on
    at_end = jnp.where(keep & (left == 1), jnp.clip(r, -top, top)[..., None], 0)
    penalty = weighted(jnp.maximum(kl_coef, 0), lp - ref)
    dense = dpo_token_rewards(dpo, ref, scale=scale, clip=clip)
    return jax.lax.stop_gradient(dense - penalty + at_end)


def contrastive_dpo_reward(
    dpo_logits: ArrayLike,
    reverse_dpo_logits: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Reward of every token, from a DPO model and its reverse.

    .. math:: r_c = \beta (\log p_c - \log p^-_c)

    With the reference model in place of the reverse one it is DPO's own reward; the
    mean under a policy's softmax is what that policy expects.

    Shapes: dpo_logits [..., C], reverse_dpo_logits [..., C], where [..., C] -> [..., C]

    Returns:
      float32 (float64 for float64 logits), 0 at classes that both hide.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5 of the larger log-probability.

    Source: AlignDistil, Zhang et al. 2025, arXiv:2503.02832.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import contrastive_dpo_reward
    >>> contrastive_dpo_reward(jnp.float32([0, 0]), jnp.float32([0, 0]))
    Array([0., 0.], dtype=float32)
    """
    check_same_shape(
        "reverse_dpo_logits", reverse_dpo_logits, "dpo_logits", jnp.shape(dpo_logits)
    )
    p = numerics.log_softmax(dpo_logits, axis=axis, where=where)
    q = numerics.log_softmax(reverse_dpo_logits, axis=axis, where=where)
    nowhere = (p == -jnp.inf) & (q == -jnp.inf)
    return weighted(beta, jnp.where(nowhere, 0, p) - jnp.where(nowhere, 0, q))
