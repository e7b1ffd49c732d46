"""Reinforcement learning from a single training example."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.policy_gradient.kl import kl_k3
from logitlab.losses.policy_gradient.token_surrogates import ppo_clip_loss
from logitlab.losses.regularized import confidence_penalty
from logitlab.numerics.arguments import hyper

__all__ = ["rlvr_loss"]


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

    Use it when one example with a verifier is all there is.

    .. math:: c_{pg} L_{clip} + c_{kl} \min(k_3, 10) - c_{ent} H

    of ``ppo_clip_loss``, ``kl_k3`` and the entropy of the policy. The paper's loss is
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
      kl_coef: weight of the divergence; 0 leaves it out.
      entropy_coef: weight of the entropy; 0 leaves it out.
      pg_coef: weight of the surrogate; 0 leaves it out.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. A hidden label has a ratio of 0.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 logits), 0 where masked and where every
      class is hidden.

    Raises:
      TypeError: an array is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, a label is C or more (NaN under ``jit``), or
        ``eps`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: One-shot RLVR, Wang et al. 2025, arXiv:2504.20571,
      github.com/ypwang61/One-Shot-RLVR.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rlvr_loss
    >>> logps = jnp.log(jnp.float32([0.5]))
    >>> rlvr_loss(jnp.zeros((1, 2)), jnp.array([0]), logps, logps, jnp.ones(1))
    Array([-1.0006932], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    keep = numerics.check_mask(mask, z.shape[:-1])
    z, y = jnp.where(keep[..., None], z, 0), numerics.wide_labels(labels)
    lp = -numerics.label_nll(z, jnp.where(keep, y, 0) if y.shape == keep.shape else y)
    keep = keep & (z > -jnp.inf).any(-1)
    eps = hyper("eps", eps, z.dtype, lambda e: e > 0, "positive")
    pg, kl = hyper("pg_coef", pg_coef, z.dtype), hyper("kl_coef", kl_coef, z.dtype)
    clipped = ppo_clip_loss(  # which may be infinite, in value and in slope
        lp, old_logps, advantages, clip_low=eps, clip_high=eps, mask=keep & (pg != 0)
    )
    divergence = kl_k3(lp, ref_logps, clip=10.0, mask=keep)
    entropy_coef = hyper("entropy_coef", entropy_coef, z.dtype)
    loss = pg * clipped + kl * divergence + confidence_penalty(z, beta=entropy_coef)
    return jnp.where(keep, loss, 0)
