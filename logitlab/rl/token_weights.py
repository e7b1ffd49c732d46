"""What keeps training right, or steady, where another policy wrote the answers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range, hyper
from logitlab.rl import _operands as operands
from logitlab.rl import _ratios as ratios

__all__ = ["importance_weights", "off_policy_mask"]


_LEVELS = ("token", "sequence")
_MODES = ("truncate", "mask")


def importance_weights(
    logps: ArrayLike,
    sampler_logps: ArrayLike,
    *,
    level: str = "token",
    mode: str = "truncate",
    clip_low: ArrayLike = 0.0,
    clip_high: ArrayLike = 3.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Importance weights of tokens sampled by another engine, clipped or masked.

    .. math:: \mathrm{clip}(\rho, C_{lo}, C_{hi}), \quad \text{or} \quad
        \rho\, [C_{lo} \le \rho \le C_{hi}], \quad
        \rho = \frac{\pi^{old}_t}{\pi^{sampler}_t} \ \text{or} \
        \prod_t \frac{\pi^{old}_t}{\pi^{sampler}_t}

    for ``"truncate"`` (truncated importance sampling), ``"mask"`` (masked importance
    sampling, IcePop) and the levels ``"token"`` and ``"sequence"``. The two engines
    share parameters and still disagree. Multiply the advantages of tokens with them,
    ``ppo_clip_loss(logps, old_logps, weights * advantages[..., None])``: surrogates
    are linear in those, and an advantage of 0 silences even an infinite ratio.

    Shapes: logps [..., T], sampler_logps [..., T], mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens, as the training engine has them
        under the policy that sampled (``old_logps`` of the surrogates).
      sampler_logps: the same, as the inference engine had them.
      level: ``"token"`` or ``"sequence"``; every token of a sequence has its weight.
      mode: ``"truncate"`` or ``"mask"``.
      clip_low: C_lo, at least 0.
      clip_high: C_hi, at least ``clip_low``; infinity for no bound.
      mask: bool, the tokens that count; by default all.

    Returns:
      Weights without gradient, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, an unknown level or mode, or bounds that are not
        in order.

    Numerics: relative error below 1e-5 for log-ratios up to 80.

    Source: truncated: Espeholt et al. 2018, arXiv:1802.01561, and Munos et al. 2016,
      arXiv:1606.02647; masked: arXiv:2510.18855; both as in
      github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import importance_weights
    >>> logps, sampler = jnp.log(jnp.float32([[0.5, 0.5], [1, 0.1]]))
    >>> print(importance_weights(logps, sampler, clip_high=2.0))
    [0.5 2. ]
    """
    if level not in _LEVELS:
        raise ValueError(f"level is {level!r}, expected one of {_LEVELS}")
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}, expected one of {_MODES}")
    log_ratio, keep = ratios.log_ratio_of(logps, sampler_logps, mask)
    low = hyper("clip_low", clip_low, log_ratio.dtype, lambda c: c >= 0, "at least 0")
    if not isinstance(clip_low, jax.core.Tracer):
        in_order = lambda c: c >= np.asarray(clip_low)  # noqa: E731
        check_range("clip_high", clip_high, in_order, f"at least clip_low, {clip_low}")
    high = hyper("clip_high", clip_high, log_ratio.dtype)
    if level == "sequence":
        log_ratio = log_ratio.sum(-1, keepdims=True)
    ratio = jnp.exp(log_ratio)
    if mode == "truncate":
        weights = jnp.clip(ratio, low, high)
    else:
        weights = jnp.where((ratio >= low) & (ratio <= high), ratio, 0)
    return jax.lax.stop_gradient(jnp.where(keep, weights, 0))


def off_policy_mask(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    threshold: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mask that drops bad answers which have become unlikely.

    .. math:: A \ge 0 \quad \text{or} \quad \frac{1}{|y|} \sum_t
        \log \frac{\pi^{old}_t}{\pi_t} \le \delta

    The other sequences get an advantage of 0, ``jnp.where(keep, advantages, 0)``, and
    count in the means as before.

    Shapes: logps [..., T], old_logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy; no gradient.
      old_logps: those under the policy that sampled them, as the inference engine had
        them if they differ.
      advantages: of the sequences.
      threshold: delta, in nats per token, at least 0; 0.5 is a start.
      mask: bool, the tokens that count; by default all.

    Returns:
      Bool, one for each sequence; True for one without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``threshold`` is negative.

    Source: DeepSeek-V3.2, 2025, arXiv:2512.02556; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import off_policy_mask
    >>> logps, old = jnp.float32([[-1, -1], [-3, -3]]), -jnp.ones((2, 2))
    >>> off_policy_mask(logps, old, jnp.float32([-1, -1]), threshold=0.5)
    Array([ True, False], dtype=bool)
    """
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_sequence(advantages, log_ratio, keep.any(-1))
    bound = hyper(
        "threshold", threshold, log_ratio.dtype, lambda t: t >= 0, "at least 0"
    )
    return (a >= 0) | (operands.token_mean(-log_ratio, keep) <= bound)
