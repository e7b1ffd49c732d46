"""Surrogates of the policy gradient that clip or gate each token by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range, hyper, weighted
from logitlab.rl import _operands as operands
from logitlab.rl import _ratios as ratios

__all__ = ["cispo_loss", "ppo_clip_loss", "sapo_loss", "vespo_loss"]


def ppo_clip_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_low: ArrayLike = 0.2,
    clip_high: ArrayLike = 0.2,
    delta: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""PPO's clipped surrogate, one value per token: also that of GRPO and DAPO.

    Use it when answers were rewarded (PPO, GRPO, DAPO), one value per token.

    .. math:: -\min(\min(\rho_t, \delta) A,\;
        \mathrm{clip}(\rho_t, 1 - \epsilon_{lo}, 1 + \epsilon_{hi}) A), \quad
        \rho_t = e^{\log \pi_t - \log \pi^{old}_t}

    The upper bound binds for positive advantages, the lower one for negative ones.
    With ``aggregate_tokens``: GRPO (``"sequence_mean"``), PPO and BNPO
    (``"token_mean"``), Dr. GRPO (``"constant"``), DAPO (``clip_high=0.28``,
    ``"token_mean"``), NGRPO (``clip_low=0.16, clip_high=0.24``, ``"token_mean"``).

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      clip_low: positive; from 1 on there is no lower bound.
      clip_high: positive.
      delta: a cap on the ratio for negative advantages too, positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a clip range or ``delta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for log-ratios up to 80;
      beyond what a float holds a negative advantage costs ``inf``, a positive one its
      bound and an advantage of 0 nothing. A clipped token has a gradient of exactly 0;
      at the bound itself, and at a ratio of 1, it is that of the ratio.

    Source: PPO, Schulman et al. 2017, arXiv:1707.06347; GRPO, Shao et al. 2024,
      arXiv:2402.03300; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ppo_clip_loss
    >>> old = jnp.zeros(3)
    >>> ppo_clip_loss(jnp.log(jnp.float32([0.5, 1, 1.5])), old, 1.0)
    Array([-0.5, -1. , -1.2], dtype=float32)
    """
    ratios.check_clips(clip_low, clip_high)
    if delta is not None:
        check_range("delta", delta, lambda d: d > 0, "positive")
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    return ratios.clipped(log_ratio, a, clip_low, clip_high, delta)


def cispo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_max: ArrayLike = 2.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""CISPO: REINFORCE with a capped importance weight, one value per token.

    Use it when clipped tokens should keep a gradient.

    .. math:: -\mathrm{sg}[\min(\rho_t, \epsilon_{max})]\, A \log \pi_t

    No token loses its gradient; the value means little.

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      clip_max: the cap on the ratio itself, positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``clip_max`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for log-ratios up to 80. A
      token of weight 0 costs nothing, whatever its log-probability.

    Source: MiniMax-M1, 2025, arXiv:2506.13585; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cispo_loss
    >>> cispo_loss(jnp.float32([-1, -1]), jnp.float32([-1, -9]), 1.0)
    Array([1., 2.], dtype=float32)
    """
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    lp, _ = operands.tokens(logps, mask, "logps")
    cap = hyper("clip_max", clip_max, lp.dtype, lambda e: e > 0, "positive")
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    return weighted(-jnp.minimum(ratio, cap) * a, lp)


def vespo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    power_pos: ArrayLike = 2.0,
    decay_pos: ArrayLike = 3.0,
    power_neg: ArrayLike = 3.0,
    decay_neg: ArrayLike = 2.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""VESPO: REINFORCE with a soft weight of the sequence, one value per token.

    Use it when samples are stale (off-policy) and weights need softening.

    .. math:: -\mathrm{sg}[W^k e^{\lambda (1 - W)}]\, A \log \pi_t, \quad
        W = \exp \sum_t \log \frac{\pi_t}{\pi^{old}_t}

    with :math:`k_{pos}, \lambda_{pos}` for advantages of at least 0 and
    :math:`k_{neg}, \lambda_{neg}` below. The weight is 1 where the policy is the one
    that sampled, and largest at :math:`W = k / \lambda`; neither a rare nor a likely
    answer can make it explode, and its length is not divided by. For policies that are
    far from the one that sampled. A token loss for ``"token_mean"``; the value means
    little.

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      power_pos: k for advantages of at least 0, at least 0.
      decay_pos: lambda for them, at least 0.
      power_neg: k for advantages below 0, at least 0.
      decay_neg: lambda for them, at least 0.
      mask: bool, the tokens that count, in W too; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a power or a decay is negative.

    Numerics: relative error below 1e-5, value and gradient, for weights above 1e-18. A
      token of weight 0 costs nothing, whatever its log-probability.

    Source: VESPO, Shen et al. 2026, arXiv:2602.10693; github.com/huggingface/trl, which
      holds :math:`\log W` between -18.4 and 20.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import vespo_loss
    >>> vespo_loss(jnp.float32([-1, -1]), jnp.float32([-1, -1]), 1.0)
    Array([1., 1.], dtype=float32)
    """
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    lp, _ = operands.tokens(logps, mask, "logps")
    given = dict(
        power_pos=power_pos,
        decay_pos=decay_pos,
        power_neg=power_neg,
        decay_neg=decay_neg,
    )
    powers_and_decays = (
        hyper(name, value, lp.dtype, lambda v: v >= 0, "at least 0")
        for name, value in given.items()
    )
    power_pos, decay_pos, power_neg, decay_neg = powers_and_decays
    log_w = jax.lax.stop_gradient(log_ratio.sum(-1, keepdims=True))
    gain = a >= 0
    growth = weighted(jnp.where(gain, power_pos, power_neg), log_w)
    decay = weighted(jnp.where(gain, decay_pos, decay_neg), jnp.expm1(log_w))
    weight = jnp.exp(jnp.where(decay == jnp.inf, -jnp.inf, growth - decay))
    return weighted(-weight * a, lp)


def sapo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    tau_pos: ArrayLike = 1.0,
    tau_neg: ArrayLike = 1.05,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""SAPO: a sigmoid gate in place of the clip, one value per token.

    Use it when a smooth gate should take the place of the clip.

    .. math:: -\frac{4}{\tau} \sigma(\tau (\rho_t - 1)) A, \quad
        \tau = \begin{cases} \tau_{pos} & A > 0 \\ \tau_{neg} & A \le 0 \end{cases}

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      tau_pos: positive.
      tau_neg: positive; a larger one closes the gate sooner.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a temperature is not positive.

    Numerics: relative error below 1e-5, value and gradient; finite for any ratio: the
      value tends to :math:`-4 A / \tau` and the gradient to 0.

    Source: SAPO, Gao et al. 2025, arXiv:2511.20347; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sapo_loss
    >>> sapo_loss(jnp.float32([0, 200]), jnp.zeros(2), 1.0)
    Array([-2., -4.], dtype=float32)
    """
    check_range("tau_pos", tau_pos, lambda t: t > 0, "positive")
    check_range("tau_neg", tau_neg, lambda t: t > 0, "positive")
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    tau = jnp.where(a > 0, tau_pos, tau_neg).astype(log_ratio.dtype)
    # There the gate is open to the last digit, and its slope 0 though the ratio is inf.
    open_ = tau * jnp.exp(jax.lax.stop_gradient(log_ratio)) > 1e3
    x = tau * (jnp.exp(jnp.where(open_, 0, log_ratio)) - 1)
    gate = jnp.where(open_, 1, jnp.exp(jax.nn.log_sigmoid(x)))
    return -4 / tau * gate * a
