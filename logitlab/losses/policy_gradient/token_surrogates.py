"""Surrogates of the policy gradient that clip or gate each token by itself."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.policy_gradient import operands, ratios

__all__ = [
    "aggregate_tokens",
    "cispo_tokens",
    "ppo_clip_tokens",
    "sapo_tokens",
]

NOT_LOSSES = ("aggregate_tokens",)

_MODES = ("token_mean", "sequence_mean", "constant", "none")


def aggregate_tokens(
    loss_tokens: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    mode: str = "token_mean",
    constant: ArrayLike | None = None,
) -> jax.Array:
    r"""The one number that an algorithm makes of its token losses.

    .. math:: \frac{\sum_{b,t} m_{bt} \ell_{bt}}{\sum_{b,t} m_{bt}}, \quad
        \frac1B \sum_b \frac{\sum_t m_{bt} \ell_{bt}}{\sum_t m_{bt}}, \quad
        \frac{\sum_{b,t} m_{bt} \ell_{bt}}{B L}

    ``"token_mean"`` is that of PPO, BNPO and DAPO, ``"sequence_mean"`` of GRPO and
    ``"constant"`` of Dr. GRPO.

    Shapes: loss_tokens [..., T], mask [..., T] -> []

    Args:
      loss_tokens: of any loss of this module that gives one for each token.
      mask: bool, the tokens that count. A sequence without any is 0, and counts as one
        of the B sequences.
      mode: as above, or ``"none"``: the token losses, 0 where masked, [..., T].
      constant: L, the longest length there can be, for ``"constant"``.

    Raises:
      TypeError: ``loss_tokens`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, an unknown mode, or a ``constant`` that is missing,
        superfluous or not positive.

    Source: GRPO, Shao et al. 2024, arXiv:2402.03300; DAPO, Yu et al. 2025,
      arXiv:2503.14476; Dr. GRPO, Liu et al. 2025, arXiv:2503.20783.

    >>> losses = jnp.float32([[1, 1, 1], [5, 0, 0]])
    >>> mask = jnp.array([[True, True, True], [True, False, False]])
    >>> for mode in ("token_mean", "sequence_mean"):
    ...     print(aggregate_tokens(losses, mask, mode=mode))
    2.0
    3.0
    """
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}, expected one of {_MODES}")
    if (constant is not None) != (mode == "constant"):
        raise ValueError(
            f"constant is {constant} for mode {mode!r}, expected a number for mode "
            "'constant' alone"
        )
    x, keep = operands.tokens(loss_tokens, mask, "loss_tokens")
    if mode == "none":
        return x
    if mode == "token_mean":
        return numerics.masked_mean(x, keep)
    if mode == "sequence_mean":
        return numerics.masked_mean(operands.token_mean(x, keep))
    checked("constant", constant, lambda c: c > 0, "positive")
    return numerics.masked_mean(operands.token_sum(x) / constant)


def ppo_clip_tokens(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    eps_low: ArrayLike = 0.2,
    eps_high: ArrayLike = 0.2,
    delta: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""PPO's clipped surrogate, one value per token: also that of GRPO and DAPO.

    .. math:: -\min(\min(\rho_t, \delta) A,\;
        \mathrm{clip}(\rho_t, 1 - \epsilon_{lo}, 1 + \epsilon_{hi}) A), \quad
        \rho_t = e^{\log \pi_t - \log \pi^{old}_t}

    The upper bound binds for positive advantages, the lower one for negative ones.
    With ``aggregate_tokens``: GRPO (``"sequence_mean"``), PPO and BNPO
    (``"token_mean"``), Dr. GRPO (``"constant"``), DAPO (``eps_high=0.28``,
    ``"token_mean"``), NGRPO (``eps_low=0.16, eps_high=0.24``, ``"token_mean"``).

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      eps_low: positive; from 1 on there is no lower bound.
      eps_high: positive.
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

    >>> old = jnp.zeros(3)
    >>> ppo_clip_tokens(jnp.log(jnp.float32([0.5, 1, 1.5])), old, 1.0)
    Array([-0.5, -1. , -1.2], dtype=float32)
    """
    ratios.check_clips(eps_low, eps_high)
    if delta is not None:
        checked("delta", delta, lambda d: d > 0, "positive")
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    return ratios.clipped(log_ratio, a, eps_low, eps_high, delta)


def cispo_tokens(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    eps_max: ArrayLike = 2.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""CISPO: REINFORCE with a capped importance weight, one value per token.

    .. math:: -\mathrm{sg}[\min(\rho_t, \epsilon_{max})]\, A \log \pi_t

    No token loses its gradient; the value means little.

    Shapes: logps [..., T], old_logps [..., T], advantages [...],
      mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      eps_max: the cap on the ratio itself, positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``eps_max`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for log-ratios up to 80. A
      token of weight 0 costs nothing, whatever its log-probability.

    Source: MiniMax-M1, 2025, arXiv:2506.13585; github.com/huggingface/trl.

    >>> cispo_tokens(jnp.float32([-1, -1]), jnp.float32([-1, -9]), 1.0)
    Array([1., 2.], dtype=float32)
    """
    checked("eps_max", eps_max, lambda e: e > 0, "positive")
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    lp, _ = operands.tokens(logps, mask, "logps")
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    weight = -jnp.minimum(ratio, eps_max) * a
    return jnp.where(weight == 0, 0, weight * jnp.where(weight == 0, 0, lp))


def sapo_tokens(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    tau_pos: ArrayLike = 1.0,
    tau_neg: ArrayLike = 1.05,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""SAPO: a sigmoid gate in place of the clip, one value per token.

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

    >>> sapo_tokens(jnp.float32([0, 200]), jnp.zeros(2), 1.0)
    Array([-2., -4.], dtype=float32)
    """
    checked("tau_pos", tau_pos, lambda t: t > 0, "positive")
    checked("tau_neg", tau_neg, lambda t: t > 0, "positive")
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    tau = jnp.where(a > 0, tau_pos, tau_neg).astype(log_ratio.dtype)
    # There the gate is open to the last digit, and its slope 0 though the ratio is inf.
    open_ = tau * jnp.exp(jax.lax.stop_gradient(log_ratio)) > 1e3
    x = tau * (jnp.exp(jnp.where(open_, 0, log_ratio)) - 1)
    gate = jnp.where(open_, 1, jnp.exp(-jnp.logaddexp(0, -x)))
    return -4 / tau * gate * a


ROWS = (
    ratios.row(
        ppo_clip_tokens,
        "elementwise",
        "PPO, Schulman et al. 2017, arXiv:1707.06347",
        note="also GRPO, Dr. GRPO, BNPO, DAPO and NGRPO, by `aggregate_tokens`",
    ),
    ratios.row(
        cispo_tokens,
        "elementwise",
        "MiniMax-M1, 2025, arXiv:2506.13585",
        surrogate="the importance weight carries no gradient",
    ),
    ratios.row(sapo_tokens, "elementwise", "SAPO, Gao et al. 2025, arXiv:2511.20347"),
)
