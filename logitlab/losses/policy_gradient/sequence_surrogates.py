"""Surrogates of the policy gradient with one number for each sequence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.rl import _operands as operands
from logitlab.rl import _ratios as ratios

__all__ = [
    "gmpo_loss",
    "gspo_loss",
    "gspo_token_loss",
    "reinforce_loss",
    "rloo_loss",
]


def gspo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_low: ArrayLike = 3e-4,
    clip_high: ArrayLike = 4e-4,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""GSPO: PPO's clipped surrogate with one ratio per sequence, a geometric mean.

    Use it when ratios of whole sequences are steadier, as for mixtures of experts.

    .. math:: -\min(\rho A,\; \mathrm{clip}(\rho, 1 - \epsilon_{lo},
        1 + \epsilon_{hi}) A), \quad \rho = \exp \Bigl( \frac{1}{|y|}
        \sum_t \log \frac{\pi_t}{\pi^{old}_t} \Bigr)

    Shapes: logps [..., T], old_logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences; no gradient.
      clip_low: positive; from 1 on there is no lower bound.
      clip_high: positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss of each sequence, float32 (float64 for float64 ``logps``), 0 for one
      without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a clip range is not positive.

    Numerics: as :func:`ppo_clip_loss`, for mean log-ratios up to 80.

    Source: GSPO, Zheng et al. 2025, arXiv:2507.18071; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import gspo_loss
    >>> logps = jnp.log(jnp.float32([0.5, 2, 1.5, 1.5]))
    >>> gspo_loss(logps.reshape(2, 2), jnp.zeros((2, 2)), jnp.ones(2), clip_high=0.2)
    Array([-1. , -1.2], dtype=float32)
    """
    ratios.check_clips(clip_low, clip_high)
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_sequence(advantages, log_ratio, keep.any(-1))
    return ratios.clipped(operands.token_mean(log_ratio, keep), a, clip_low, clip_high)


def gspo_token_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_low: ArrayLike = 3e-4,
    clip_high: ArrayLike = 4e-4,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Token-level GSPO: sequence ratios with an advantage for each token.

    Use it when you want GSPO with an advantage for each token.

    .. math:: -\frac{1}{|y|} \sum_t \min(\rho_t A_t,\; \mathrm{clip}(\rho_t,
        1 - \epsilon_{lo}, 1 + \epsilon_{hi}) A_t), \quad
        \rho_t = \mathrm{sg}[\rho] \frac{\pi_t}{\mathrm{sg}[\pi_t]}

    with the ratio of the sequence, as in ``gspo_loss``, held fixed. With the advantages
    of sequences both have the same values and gradients.

    Shapes: logps [..., T], old_logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences, or of the tokens, [..., T]; no gradient.
      clip_low: positive; from 1 on there is no lower bound.
      clip_high: positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss of each sequence, float32 (float64 for float64 ``logps``), 0 for one
      without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a clip range is not positive.

    Numerics: as :func:`ppo_clip_loss`, for mean log-ratios up to 80.

    Source: GSPO, Zheng et al. 2025, arXiv:2507.18071; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import gspo_token_loss
    >>> logps = jnp.log(jnp.float32([0.5, 2]))
    >>> gspo_token_loss(logps, jnp.zeros(2), jnp.float32([3, -1]))
    Array(-1., dtype=float32)
    """
    ratios.check_clips(clip_low, clip_high)
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_token(advantages, log_ratio, keep)
    mean = jax.lax.stop_gradient(operands.token_mean(log_ratio, keep))[..., None]
    # A zero that has the gradient of the token, even where its logarithm is -inf.
    finite = jnp.where(jnp.isfinite(log_ratio), log_ratio, 0)
    move = finite - jax.lax.stop_gradient(finite)
    return operands.token_mean(
        ratios.clipped(mean + move, a, clip_low, clip_high), keep
    )


def gmpo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_low: ArrayLike = 0.4,
    clip_high: ArrayLike = 0.4,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""GMPO: surrogate with the geometric mean of clipped token ratios.

    Use it when outlying token ratios make training unstable.

    .. math:: -A \exp \Bigl( \frac{1}{|y|} \sum_t c(l_t) \Bigr), \quad
        l_t = \log \frac{\pi_t}{\pi^{old}_t}, \quad c(l) = \begin{cases}
        \min(l, \epsilon_{hi}) & A > 0 \\ \max(l, -\epsilon_{lo}) & A \le 0 \end{cases}

    Shapes: logps [..., T], old_logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences; no gradient.
      clip_low: bound on the logarithm of a ratio, positive.
      clip_high: bound on the logarithm of a ratio, positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss of each sequence, float32 (float64 for float64 ``logps``), 0 for one
      without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a clip range is not positive.

    Numerics: as :func:`ppo_clip_loss`, for mean log-ratios up to 80.

    Source: GMPO, Zhao et al. 2025, arXiv:2507.20673; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import gmpo_loss
    >>> gmpo_loss(jnp.float32([0.9, -0.4]), jnp.zeros(2), 1.0)
    Array(-1., dtype=float32)
    """
    ratios.check_clips(clip_low, clip_high)
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_sequence(advantages, log_ratio, keep.any(-1))
    low, high = (jnp.asarray(e, log_ratio.dtype) for e in (clip_low, clip_high))
    gain = (a > 0)[..., None]
    outside = jnp.where(gain, log_ratio > high, log_ratio < -low)
    bounded = jnp.where(outside, jnp.where(gain, high, -low), log_ratio)
    return ratios.weighted(-a, operands.token_mean(bounded, keep))


def rloo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_low: ArrayLike = 0.2,
    clip_high: ArrayLike = 0.2,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""RLOO: PPO's clipped surrogate with the ratio of whole sequences.

    Use it when you want RLOO, with the ratio of whole sequences.

    .. math:: -\min(\rho A,\; \mathrm{clip}(\rho, 1 - \epsilon_{lo},
        1 + \epsilon_{hi}) A), \quad
        \rho = \exp \sum_t \log \frac{\pi_t}{\pi^{old}_t}

    Advantages are those of ``rloo_advantages``; a penalty on the divergence from a
    reference belongs in the rewards, :math:`-\beta \sum_t (\log \pi^{old}_t -
    \log \pi^{ref}_t)` with :math:`\beta = 0.05`.

    Shapes: logps [..., T], old_logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      advantages: of the sequences; no gradient.
      clip_low: positive; from 1 on there is no lower bound.
      clip_high: positive.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss of each sequence, float32 (float64 for float64 ``logps``), 0 for one
      without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or a clip range is not positive.

    Numerics: as :func:`ppo_clip_loss`, for summed log-ratios up to 80.

    Source: RLOO, Ahmadian et al. 2024, arXiv:2402.14740; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rloo_loss
    >>> rloo_loss(jnp.log(jnp.float32([0.5, 1.5])), jnp.zeros(2), 1.0)
    Array(-0.75, dtype=float32)
    """
    ratios.check_clips(clip_low, clip_high)
    log_ratio, keep = ratios.log_ratio_of(logps, old_logps, mask)
    a = operands.per_sequence(advantages, log_ratio, keep.any(-1))
    return ratios.clipped(log_ratio.sum(-1), a, clip_low, clip_high)


def reinforce_loss(
    logps: ArrayLike, advantages: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""REINFORCE, one value per sequence.

    Use it when you are on policy and want no ratio.

    .. math:: -A \sum_t \log \pi_t

    An entropy bonus is ``confidence_penalty`` of the logits.

    Shapes: logps [..., T], advantages [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      advantages: of the sequences; no gradient.
      mask: bool, the tokens that count; by default all.

    Returns:
      The loss of each sequence, float32 (float64 for float64 ``logps``), 0 for one
      without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree.

    Numerics: relative error below 1e-5. An advantage of 0 costs nothing.

    Source: Williams 1992, Machine Learning 8.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import reinforce_loss
    >>> reinforce_loss(jnp.float32([[-1, -2], [-3, -4]]), jnp.float32([1, -1]))
    Array([ 3., -7.], dtype=float32)
    """
    lp, keep = operands.tokens(logps, mask, "logps")
    a = operands.per_sequence(advantages, lp, keep.any(-1))
    counts = (a != 0)[..., None]
    return -a * jnp.sum(jnp.where(counts, lp, 0), -1)
