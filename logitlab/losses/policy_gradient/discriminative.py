"""DRPO and DisCO: right answers scored against wrong ones, inside a trust region."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference._pairs import coded
from logitlab.numerics.arguments import hyper, weighted
from logitlab.rl import _operands as operands
from logitlab.rl.token_aggregation import length_weights

__all__ = ["disco_loss", "drpo_loss"]


_KINDS = ("k1", "k3")


def drpo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    rewards: ArrayLike,
    group_ids: ArrayLike,
    *,
    max_length: ArrayLike,
    lam: ArrayLike = 0.1,
    tau: ArrayLike = 10.0,
    delta: ArrayLike = 1e-4,
    beta: ArrayLike = 1e3,
    kl: str = "k1",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""DRPO: right answers above wrong ones, short ones most; one per batch.

    Use it when right answers should get shorter.

    .. math:: -\frac1Q \sum_q \Bigl( \sum_{i \in P_q} w_i s_i - \tau \log
        \frac{1}{|N_q|} \sum_{j \in N_q} e^{s_j / \tau} \Bigr) +
        \mathrm{sg}[\beta (K - \delta)_+]\, K

    with the score :math:`s_i`, the mean log-probability of an answer, and the weights
    :math:`w_i` of ``length_weights`` among the right answers of its prompt. A prompt
    without right or without wrong answers adds nothing, and is one of the Q. The
    divergence K is the mean over all tokens of :math:`\log \pi^{old} - \log \pi`, or of
    :math:`\rho - 1 - \log \rho`. No right answer is ever pushed down.

    The released code prints another value, with 1 in place of the logarithm; its
    gradient is this one's.

    Shapes: logps [B, T], old_logps [B, T], rewards [B], group_ids [B],
      mask [B, T] -> []

    Args:
      logps: log-probabilities of the tokens of B answers under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      rewards: above 0 for a right answer.
      group_ids: integers, equal for answers to one prompt; in any order.
      max_length: L, the longest answer there can be, positive.
      lam: lambda, positive: how little length matters. Infinity is ``disco_loss``.
      tau: positive; near 0 only the most probable wrong answer counts.
      delta: radius of the trust region, at least 0.
      beta: weight of the penalty beyond it, at least 0.
      kl: ``"k1"`` or ``"k3"``.
      mask: bool, the tokens that count. An answer without any is not there.

    Returns:
      One number, float32 (float64 for float64 ``logps``); 0 for no answers. Answers are
      compared in pairs: temporaries are of size B x B.

    Raises:
      TypeError: ``logps``, ``old_logps`` or ``rewards`` is not floating point,
        ``group_ids`` not integer or ``mask`` not bool.
      ValueError: the shapes disagree, a number is out of its range, or ``kl`` unknown.

    Numerics: relative error below 1e-5 of the largest term, value and gradient.

    Source: DRPO 2025, arXiv:2510.04474, github.com/Optimization-AI/DRPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import drpo_loss
    >>> logps = jnp.float32([[-1, -1], [-2, -2]])
    >>> right, same = jnp.float32([1, 0]), jnp.array([0, 0])
    >>> drpo_loss(logps, logps, right, same, max_length=2)
    Array(-1., dtype=float32)
    """
    if kl not in _KINDS:
        raise ValueError(f"kl is {kl!r}, expected one of {_KINDS}")
    lp, keep = operands.tokens(logps, mask, "logps")
    tau = hyper("tau", tau, lp.dtype, lambda t: t > 0, "positive")
    delta = hyper("delta", delta, lp.dtype, lambda d: d >= 0, "at least 0")
    beta = hyper("beta", beta, lp.dtype, lambda b: b >= 0, "at least 0")
    if lp.ndim != 2:
        raise ValueError(f"logps has shape {lp.shape}, expected [B, T]")
    old = operands.constant(old_logps, lp, keep, "old_logps")
    there = keep.any(-1)
    right = operands.per_sequence(rewards, lp, there, "rewards") > 0
    group = _groups(group_ids, there)
    correct, wrong = group & right[None], group & ~right[None]
    scores = operands.token_mean(lp, keep)[None]

    lengths = jnp.broadcast_to(keep.sum(-1, dtype=lp.dtype)[None], group.shape)
    w = length_weights(lengths, correct, lam=lam, max_length=max_length)
    gain = jnp.sum(weighted(w, jnp.where(correct, scores, 0)), -1)
    gap = gain - _soft_mean(scores, wrong, tau)
    first = there & ~jnp.any(jnp.tril(group, -1), -1)  # of its prompt
    mixed = first & correct.any(-1) & wrong.any(-1)
    prompts = jnp.maximum(first.sum(dtype=lp.dtype), 1)
    objective = jnp.sum(jnp.where(mixed, gap, 0) / prompts)

    log_ratio = jnp.where(beta == 0, 0, lp - old)  # which may be infinite
    off = -log_ratio if kl == "k1" else numerics.exp_excess(log_ratio)
    divergence = numerics.masked_mean(off, keep)
    weight = beta * jax.nn.relu(jax.lax.stop_gradient(divergence) - delta)
    return weighted(weight, divergence) - objective


def disco_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    rewards: ArrayLike,
    group_ids: ArrayLike,
    *,
    tau: ArrayLike = 10.0,
    delta: ArrayLike = 1e-4,
    beta: ArrayLike = 1e3,
    kl: str = "k1",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""DisCO: ``drpo_loss`` with equal weights for all right answers of a prompt.

    Use it when right answers should score above wrong ones, without clips.

    .. math:: \lambda = \infty, \quad w_i = 1 / |P_q|

    Shapes: logps [B, T], old_logps [B, T], rewards [B], group_ids [B],
      mask [B, T] -> []

    Args:
      logps: log-probabilities of the tokens of B answers under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      rewards: above 0 for a right answer.
      group_ids: integers, equal for answers to one prompt; in any order.
      tau: positive; near 0 only the most probable wrong answer counts.
      delta: radius of the trust region, at least 0.
      beta: weight of the penalty beyond it, at least 0.
      kl: ``"k1"`` or ``"k3"``.
      mask: bool, the tokens that count. An answer without any is not there.

    Returns:
      One number, float32 (float64 for float64 ``logps``); 0 for no answers.

    Raises:
      TypeError: as :func:`drpo_loss`.
      ValueError: as :func:`drpo_loss`.

    Numerics: relative error below 1e-5 of the largest term, value and gradient.

    Source: DisCO, Li et al. 2025, arXiv:2505.12366, github.com/Optimization-AI/DRPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import disco_loss
    >>> logps = jnp.float32([[-1, -1], [-2, -2]])
    >>> disco_loss(logps, logps, jnp.float32([1, 0]), jnp.array([0, 0]))
    Array(-1., dtype=float32)
    """
    return drpo_loss(
        logps,
        old_logps,
        rewards,
        group_ids,
        max_length=1,
        lam=jnp.inf,
        tau=tau,
        delta=delta,
        beta=beta,
        kl=kl,
        mask=mask,
    )


def _groups(group_ids, there):
    """Which answers are to the same prompt, [B, B]."""
    ids = coded(group_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"group_ids has dtype {ids.dtype}, expected integers")
    if ids.shape != there.shape:
        raise ValueError(f"group_ids has shape {ids.shape}, expected {there.shape}")
    return (ids[:, None] == ids[None]) & there[:, None] & there[None]


def _soft_mean(scores, wrong, tau):
    """``tau * log(mean(exp(s / tau)))`` over the wrong answers of each row."""
    top = jnp.max(scores, -1, keepdims=True, where=wrong, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(top == -jnp.inf, 0, top))
    count = jnp.maximum(wrong.sum(-1, dtype=scores.dtype), 1)
    less = jnp.expm1(jnp.where(wrong, scores - top, 0) / tau)
    return top[..., 0] + tau * jnp.log1p(less.sum(-1) / count)
