"""Losses of what each answer of a pair is worth, and not of their difference alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import arguments
from logitlab.numerics.arguments import weighted

__all__ = [
    "aot_loss",
    "apo_down_loss",
    "apo_zero_loss",
    "bco_pair_loss",
    "dpop_loss",
    "nca_loss",
    "sppo_loss",
]


def nca_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Noise-contrastive alignment (NCA) of pairs, by absolute rewards.

    Use it when each answer's own reward should not fall.

    .. math:: \ell = \mathrm{sp}(-\beta a) + \tfrac12 \mathrm{sp}(\beta a)
        + \tfrac12 \mathrm{sp}(\beta b), \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities);
      2 log 2 where policy and reference agree.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5 for rewards up to 80.

    Source: Chen et al. 2024, arXiv:2402.05369.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import nca_loss
    >>> zero = jnp.zeros(1)
    >>> nca_loss(zero, zero, zero, zero)
    Array([1.3862944], dtype=float32)
    """
    good, bad = _rewards(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    either = (jax.nn.softplus(good) + jax.nn.softplus(bad)) / 2
    return jax.nn.softplus(-good) + either


def bco_pair_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    shift: ArrayLike = 0.0,
) -> jax.Array:
    r"""Binary classifier optimization on pairs: each reward against a shift.

    Use it when each answer of a pair is a thumbs-up or thumbs-down.

    .. math:: \ell = \mathrm{sp}(-(\beta a - \delta)) + \mathrm{sp}(\beta b - \delta),
        \quad a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    More than DPO's loss, whatever the shift.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      shift: delta, a number without gradient; :func:`running_mean_update` tracks one.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: Jung et al. 2024, arXiv:2404.04656.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bco_pair_loss
    >>> zero = jnp.zeros(1)
    >>> bco_pair_loss(jnp.float32([12]), jnp.float32([4]), zero, zero, shift=0.3)
    Array([1.0855505], dtype=float32)
    """
    good, bad = _rewards(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    shift = jax.lax.stop_gradient(arguments.hyper("shift", shift, good.dtype))
    return jax.nn.softplus(shift - good) + jax.nn.softplus(bad - shift)


def sppo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    chosen_win_prob: ArrayLike = 1.0,
    rejected_win_prob: ArrayLike = 0.0,
) -> jax.Array:
    r"""Self-play preference optimization: log-ratios fitted to win probabilities.

    Use it when you know win probabilities from self-play.

    .. math:: \ell = \Bigl(a - \frac{p_w - 1/2}{\beta}\Bigr)^2
        + \Bigl(b - \frac{p_l - 1/2}{\beta}\Bigr)^2, \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Some code takes the mean of the two squares, half of this.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive, the inverse of the paper's eta.
      chosen_win_prob: the probability, one or [...], that the answer beats one of the
        policy's; by default the hard loss.
      rejected_win_prob: the same of the rejected answer.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5 off the minimum.

    Source: Wu et al. 2024, arXiv:2405.00675.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sppo_loss
    >>> zero = jnp.zeros(1)
    >>> sppo_loss(zero, zero, zero, zero)
    Array([50.], dtype=float32)
    """
    good, bad = _rewards(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    beta = jnp.asarray(beta, good.dtype)

    def error(reward, win_prob):
        target = jax.lax.stop_gradient(win_prob) - 0.5
        return jnp.square((reward - target) / beta)

    won = arguments.hyper("chosen_win_prob", chosen_win_prob, good.dtype)
    lost = arguments.hyper("rejected_win_prob", rejected_win_prob, good.dtype)
    return error(good, won) + error(bad, lost)


def apo_zero_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Anchored preference optimization, zero: chosen up, rejected down.

    Use it when chosen answers are better than the model's own.

    .. math:: \ell = 1 - \sigma(\beta a) + \sigma(\beta b), \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.

    Returns:
      One number per pair, in [0, 2], float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import apo_zero_loss
    >>> zero = jnp.zeros(1)
    >>> apo_zero_loss(jnp.float32([400]), jnp.float32([-400]), zero, zero)
    Array([8.496708e-18], dtype=float32)
    """
    good, bad = _rewards(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    return numerics.sigmoid(-good) + numerics.sigmoid(bad)


def apo_down_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Anchored preference optimization, down: both down, rejected more.

    Use it when the model's own answers are better than the chosen ones.

    .. math:: \ell = \sigma(\beta a) + 1 - \sigma(\beta (a - b)), \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.

    Returns:
      One number per pair, in [0, 2], float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80; the
      slope in the chosen answer is a difference of two, and right beside the larger.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import apo_down_loss
    >>> zero = jnp.zeros(1)
    >>> apo_down_loss(zero, zero, zero, zero)
    Array([1.], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    good = arguments.log_ratio(logps[0], logps[2], beta)
    return numerics.sigmoid(good) + numerics.sigmoid(-pairs.margin(*logps, beta=beta))


def dpop_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    penalty_weight: ArrayLike = 50.0,
) -> jax.Array:
    r"""DPO-Positive: DPO with a penalty while the chosen answer gets less likely.

    Use it when chosen answers get less likely while you train.

    .. math:: \ell = \mathrm{sp}\bigl(-\beta (\Delta - \lambda \max(0, -a))\bigr), \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        \Delta = a - \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Training starts at the kink, where policy and reference agree; its slope there is
    that of DPO.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      penalty_weight: lambda, 5 to 500; 0 is DPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Pal et al. 2024, arXiv:2402.13228.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dpop_loss
    >>> zero = jnp.zeros(1)
    >>> jax.grad(lambda c: dpop_loss(c, zero, zero, zero).sum())(zero)
    Array([-0.05], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    fall = jax.nn.relu(-arguments.log_ratio(logps[0], logps[2], beta))
    penalty = weighted(penalty_weight, fall, "penalty_weight")
    return pairs.logistic(pairs.margin(*logps, beta=beta) - penalty)


def aot_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
    paired: bool = True,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Alignment by optimal transport (AOT): sorted rewards instead of pairs.

    Use it when all chosen answers together should beat all rejected ones.

    .. math:: \ell_i = (1 - \epsilon)\, \mathrm{sp}(-\beta m_i)
        + \epsilon\, \mathrm{sp}(\beta m_i), \quad
        m = \mathrm{sort}(\log \pi(y_w) - \log \pi(y_l))
        - \mathrm{sort}(\log \pi_{ref}(y_w) - \log \pi_{ref}(y_l))

    The smallest of each batch come first: a loss belongs to a quantile, not to a pair.
    Unpaired, :math:`m = \mathrm{sort}(a) - \mathrm{sort}(b)` with a and b the
    log-ratios of chosen and of rejected answers to the reference.

    Shapes: chosen_logps [..., B], rejected_logps [..., B], ref_chosen_logps [..., B],
      ref_rejected_logps [..., B], mask [..., B] -> [..., B]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      label_smoothing: epsilon, in [0, 1].
      paired: chosen and rejected answers belong together.
      mask: bool, the pairs that take part. Their losses come first, then zeros.

    Returns:
      B losses in nats, float32 (float64 for float64 log-probabilities); divide their
      sum by the number of pairs.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, there is no batch, or a hyper-parameter is outside
        its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Melnyk et al. 2024, arXiv:2406.05882.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import aot_loss
    >>> chosen, zero = jnp.float32([9, 3]), jnp.zeros(2)
    >>> aot_loss(chosen, zero, zero, zero, beta=1.0)
    Array([0.04858735, 0.0001234 ], dtype=float32)
    """
    arguments.positive(beta=beta)
    pairs.smoothing(label_smoothing)
    chosen, rejected, *ref = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    if not chosen.ndim:
        raise ValueError("chosen_logps has shape (), expected (..., B)")
    kept = numerics.check_mask(mask, chosen.shape)
    chosen, rejected, *ref = (jnp.where(kept, a, 0) for a in (chosen, rejected, *ref))
    if paired:
        high, low = chosen - rejected, ref[0] - ref[1]
    else:
        high, low = chosen - ref[0], rejected - ref[1]
    used = jnp.flip(jnp.sort(kept, -1), -1)  # as many as there are, the first
    high, low = (
        jnp.where(used, jnp.sort(jnp.where(kept, a, jnp.inf), -1), 0)
        for a in (high, low)
    )
    x = jnp.asarray(beta, high.dtype) * (high - low)
    return jnp.where(used, pairs.logistic(x, label_smoothing), 0)


def _rewards(chosen, rejected, ref_chosen, ref_rejected, beta):
    """Rewards of both answers."""
    arguments.positive(beta=beta)
    chosen, rejected, *ref = pairs.referenced(
        chosen, rejected, ref_chosen, ref_rejected
    )
    good = arguments.log_ratio(chosen, ref[0], beta)
    return good, arguments.log_ratio(rejected, ref[1], beta)
