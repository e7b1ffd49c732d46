"""Reinforcement learning from a single training example."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.policy_gradient.divergences import kl_k3
from logitlab.losses.policy_gradient.token_surrogates import ppo_clip_tokens
from logitlab.losses.regularized import confidence_penalty
from logitlab.losses.rows import Row

__all__ = ["historical_variance_rank", "rlvr_loss"]

NOT_LOSSES = ("historical_variance_rank",)


def rlvr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    old_logps: ArrayLike,
    ref_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    eps: ArrayLike = 0.2,
    kl_coef: ArrayLike = 1e-3,
    entropy_coef: ArrayLike = 1e-3,
    pg_coef: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One-shot RLVR: clipped surrogate, divergence and entropy, one value per token.

    .. math:: c_{pg} L_{clip} + c_{kl} \min(k_3, 10) - c_{ent} H

    of ``ppo_clip_tokens``, ``kl_k3`` and the entropy of the policy. The paper's loss is
    the mean over tokens, ``aggregate_tokens(..., mask)``, with the advantages of
    ``group_advantages(..., eps=1e-6)``. Rollouts that all got the same reward leave the
    divergence and the entropy.

    Shapes: logits [..., T, C], labels [..., T], old_logps [..., T],
      ref_logps [..., T], advantages [...], where [..., T, C], mask [..., T] -> [..., T]

    Args:
      logits: of the policy; ``-inf`` is the same as ``where=False``.
      labels: the sampled tokens, ints in ``[0, C)``; any where ``mask`` is False.
      old_logps: their log-probabilities when they were sampled; no gradient.
      ref_logps: those under the reference; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      eps: the clip range, positive.
      kl_coef: weight of the divergence.
      entropy_coef: weight of the entropy.
      pg_coef: weight of the surrogate; 0 trains on the entropy alone.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. A hidden label has a ratio of 0.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 logits), 0 where masked and where every
      class is hidden.

    Raises:
      TypeError: an array is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, a label is out of range (NaN under ``jit``), or
        ``eps`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: One-shot RLVR, Wang et al. 2025, arXiv:2504.20571,
      github.com/ypwang61/One-Shot-RLVR.

    >>> logps = jnp.log(jnp.float32([0.5]))
    >>> rlvr_loss(jnp.zeros((1, 2)), jnp.array([0]), logps, logps, jnp.ones(1))
    Array([-1.0006932], dtype=float32)
    """
    checked("eps", eps, lambda e: e > 0, "positive")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    keep = numerics.kept(mask, z.shape[:-1])
    z, y = jnp.where(keep[..., None], z, 0), jnp.asarray(labels)
    lp = -numerics.label_nll(z, jnp.where(keep, y, 0) if y.shape == keep.shape else y)
    keep = keep & (z > -jnp.inf).any(-1)
    clipped = ppo_clip_tokens(
        lp, old_logps, advantages, eps_low=eps, eps_high=eps, mask=keep
    )
    divergence = kl_k3(lp, ref_logps, clip=10.0, mask=keep)
    negative_entropy = confidence_penalty(z, beta=entropy_coef)
    loss = pg_coef * clipped + kl_coef * divergence + negative_entropy
    return jnp.where(keep, loss, 0)


def historical_variance_rank(history: ArrayLike) -> jax.Array:
    r"""Prompts by how much their accuracy has moved in training, most first.

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

    >>> historical_variance_rank(jnp.float32([[0.5, 0.5], [0, 1], [0.2, 0.6]]))
    Array([1, 2, 0], dtype=int32)
    """
    h = numerics.promote(history, "history")
    if h.ndim != 2 or h.shape[1] == 0:
        raise ValueError(f"history has shape {h.shape}, expected [N, E]")
    return jnp.argsort(-h.std(-1), stable=True).astype(jnp.int32)


def _rollouts(key, shape, dtype):
    keys = jax.random.split(key, 5)
    logits = 3 * jax.random.normal(keys[0], shape, dtype)
    labels = jax.random.randint(keys[1], shape[:-1], 0, shape[-1])
    old = -jnp.abs(2 * jax.random.normal(keys[2], shape[:-1], dtype))
    ref = old + 0.5 * jax.random.normal(keys[3], shape[:-1], dtype)
    return logits, labels, old, ref, jax.random.normal(keys[4], shape[:-1], dtype)


ROWS = (
    Row(
        rlvr_loss,
        "example",
        _rollouts,
        "One-shot RLVR, Wang et al. 2025, arXiv:2504.20571",
        golden="policy_gradient_losses",
        lower=None,
        cost="that of ``confidence_penalty``, for the entropy",
        note="examples are tokens",
    ),
)
