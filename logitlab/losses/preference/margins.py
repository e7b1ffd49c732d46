"""Losses of how much better than its reference a policy tells answers apart."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference import _pairs as pairs
from logitlab.losses.preference import f_divergences as divergences
from logitlab.numerics import arguments
from logitlab.numerics.arguments import check_range, weighted

__all__ = [
    "discopop_loss",
    "dpo_hinge_loss",
    "exo_loss",
    "ipo_loss",
    "r_dpo_loss",
    "robust_dpo_loss",
    "sigmoid_norm_loss",
]


def robust_dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.1,
) -> jax.Array:
    r"""Robust DPO: unbiased when preferences are flipped at a known rate.

    Use it when a known share of the preferences is flipped.

    .. math:: \hat\ell(m) = \frac{(1 - \epsilon)\, \mathrm{sp}(-m)
        - \epsilon\, \mathrm{sp}(m)}{1 - 2\epsilon}
        = \mathrm{sp}(-m) - \frac{\epsilon\, m}{1 - 2\epsilon}, \quad m = \beta\Delta

    so that :math:`(1-\epsilon)\hat\ell(m) + \epsilon\hat\ell(-m) = \mathrm{sp}(-m)`. It
    has no lower bound and its slope never vanishes: stop early, or decay weights.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      label_smoothing: epsilon, the known share of flipped preferences, in [0, 0.5); 0
        is DPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, but
      beside the value's zero, where the two terms cancel.

    Source: Chowdhury et al. 2024, arXiv:2403.00409.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import robust_dpo_loss
    >>> zero, chosen = jnp.zeros(1), jnp.float32([7])
    >>> robust_dpo_loss(chosen, zero, zero, zero, label_smoothing=0.2)
    Array([0.16985275], dtype=float32)
    """
    arguments.positive(beta=beta)
    inside = lambda e: (e >= 0) & (e < 0.5)  # noqa: E731
    check_range("label_smoothing", label_smoothing, inside, "a number in [0, 0.5)")
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    x = pairs.margin(*logps, beta=beta)
    # Divided in the dtype that it comes in: near 0.5 float32 leaves few digits.
    share = label_smoothing / (1 - 2 * label_smoothing)
    return jax.nn.softplus(-x) - weighted(share, x)


def dpo_hinge_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Hinge of DPO's margin: normalised SLiC, the loss of RSO.

    Use it when you want a hinge in place of DPO's logistic (RSO).

    .. math:: \ell = \max(0, 1 - \beta\Delta)

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities). At the kink
      the slope is 0.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5 off the kink.

    Source: RSO, Liu et al. 2024, arXiv:2309.06657.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dpo_hinge_loss
    >>> zero = jnp.zeros(1)
    >>> dpo_hinge_loss(jnp.float32([4]), zero, zero, zero)
    Array([0.6], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return pairs.hinge(pairs.margin(*logps, beta=beta))


def ipo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    chosen_lengths: ArrayLike | None = None,
    rejected_lengths: ArrayLike | None = None,
    *,
    beta: ArrayLike = 0.1,
    average_log_prob: bool = True,
    f_divergence: str = "reverse_kl",
    f_alpha: ArrayLike = 0.5,
) -> jax.Array:
    r"""Identity preference optimization (IPO): squared error of the DPO margin.

    Use it when DPO overfits preferences that are nearly certain.

    .. math:: \ell = \Bigl(\frac{a}{n_w} - \frac{b}{n_l} - \frac{1}{2\beta}\Bigr)^2,
        \quad a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    The paper, whose tau is beta, writes sums; implementations in use divide by lengths.
    Another ``f_divergence`` replaces a by :math:`f'(e^a)` and b by :math:`f'(e^b)`,
    without constants, as ``f_dpo_loss`` has them.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], chosen_lengths [...], rejected_lengths [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      chosen_lengths: numbers of tokens, for ``average_log_prob``; 0 counts as 1.
      rejected_lengths: the same of the rejected answers.
      beta: positive.
      average_log_prob: divide by the lengths; otherwise they are not used.
      f_divergence: ``reverse_kl``, ``forward_kl``, ``js_divergence`` or
        ``alpha_divergence``.
      f_alpha: of ``alpha_divergence``; 1 is ``reverse_kl``.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, lengths are missing, ``f_divergence`` is no such
        name, or ``beta`` is not positive.

    Numerics: relative error below 1e-5 off the minimum, for exponents up to 5 of
      ``forward_kl`` and ``alpha_divergence``.

    Source: Azar et al. 2023, arXiv:2310.12036; divergences of Wang et al. 2023,
      arXiv:2309.16240; lengths as in trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ipo_loss
    >>> zero = jnp.zeros(1)
    >>> ipo_loss(jnp.float32([12]), zero, zero, zero, jnp.array([3]), jnp.array([5]))
    Array([1.], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    lengths = ()
    if average_log_prob:
        lengths = arguments.lengths_like(
            logps[0], chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths
        )
    if f_divergence == "reverse_kl":
        return pairs.squared(pairs.margin(*logps, *lengths, beta=1.0), beta)
    gap = divergences.divergence_gap(*logps, f_divergence, f_alpha, lengths=lengths)
    return pairs.squared(gap, beta)


def exo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 1e-3,
) -> jax.Array:
    r"""EXO on pairs: the reverse KL of DPO's two-way choice from the smoothed label.

    Use it when you want the reverse divergence of the two-way choice.

    .. math:: \ell = \mathrm{KL}\bigl((q, 1 - q) \,\|\, (1 - \epsilon, \epsilon)\bigr),
        \quad q = \sigma(\beta\Delta)

    Its slope vanishes at margins far from 0, on both sides.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      label_smoothing: epsilon, in (0, 1).

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80; of
      the two terms where they cancel, at distances from the minimum below 1.

    Source: Ji et al. 2024, arXiv:2402.00856.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import exo_loss
    >>> zero = jnp.zeros(1)
    >>> exo_loss(jnp.float32([400]), zero, zero, zero)
    Array([0.0010005], dtype=float32)
    """
    arguments.positive(beta=beta)
    inside = lambda e: (e > 0) & (e < 1)  # noqa: E731
    check_range("label_smoothing", label_smoothing, inside, "a number in (0, 1)")
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    x = pairs.finite(pairs.margin(*logps, beta=beta))
    eps = jnp.asarray(label_smoothing, x.dtype)
    log_q, log_not_q = -jax.nn.softplus(-x), -jax.nn.softplus(x)
    agree = jnp.exp(log_q) * (log_q - jnp.log1p(-eps))
    return agree + jnp.exp(log_not_q) * (log_not_q - jnp.log(eps))


def discopop_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    blend_temperature: ArrayLike = 0.05,
) -> jax.Array:
    r"""DiscoPOP: logistic at margins below 0, exponential above.

    Use it when you want the loss that a search by LLMs found.

    .. math:: \ell = (1 - s)\, \mathrm{sp}(-x) + s\, e^{-x}, \quad
        s = \sigma(x / \tau), \quad x = \beta\Delta

    Not convex; the gradient goes through s as well.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      blend_temperature: tau, positive.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80. The
      exponential is taken together with s, so for tau up to 1 nothing overflows.

    Source: Lu et al. 2024, arXiv:2406.08414.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import discopop_loss
    >>> zero = jnp.zeros(1)
    >>> discopop_loss(jnp.float32([-1e5]), zero, zero, zero)
    Array([10000.], dtype=float32)
    """
    arguments.positive(beta=beta, blend_temperature=blend_temperature)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    x = pairs.finite(pairs.margin(*logps, beta=beta))
    y = x / jnp.asarray(blend_temperature, x.dtype)
    exponent = -jax.nn.softplus(-y) - x
    largest = math.log(float(jnp.finfo(x.dtype).max)) * (1 - 1e-6)
    # Beyond it the value is inf; the slope, of two signs, that of the largest number.
    beyond = jax.lax.stop_gradient(jax.nn.relu(exponent - largest))
    exponential = jnp.exp(exponent - beyond) + jnp.where(beyond > 0, jnp.inf, 0)
    return numerics.sigmoid(-y) * jax.nn.softplus(-x) + exponential


def sigmoid_norm_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    chosen_lengths: ArrayLike,
    rejected_lengths: ArrayLike,
    *,
    beta: ArrayLike = 5.0,
    f_divergence: str = "reverse_kl",
    f_alpha: ArrayLike = 0.5,
) -> jax.Array:
    r"""Length-normalised DPO: each log-ratio over the number of its tokens.

    Use it when long answers win: ratios are divided by lengths.

    .. math:: \ell = \mathrm{sp}\Bigl(-\beta\Bigl(\frac{a}{n_w} - \frac{b}{n_l}
        \Bigr)\Bigr), \quad a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Another ``f_divergence`` replaces a by :math:`f'(e^a)` and b by :math:`f'(e^b)`,
    without constants, as ``f_dpo_loss`` has them.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], chosen_lengths [...], rejected_lengths [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      chosen_lengths: numbers of tokens; 0 counts as 1.
      rejected_lengths: the same of the rejected answers.
      beta: positive, larger than DPO's: 2 to 10.
      f_divergence: ``reverse_kl``, ``forward_kl``, ``js_divergence`` or
        ``alpha_divergence``.
      f_alpha: of ``alpha_divergence``; 1 is ``reverse_kl``.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, ``f_divergence`` is no such name, or ``beta`` is
        not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80; 5e-5
      with another divergence, for exponents up to 5.

    Source: Tulu 3, Lambert et al. 2024, arXiv:2411.15124.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sigmoid_norm_loss
    >>> one, zero = jnp.float32([80]), jnp.zeros(1)
    >>> sigmoid_norm_loss(one, zero, zero, zero, jnp.array([10]), jnp.array([3]))
    Array([4.248354e-18], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    lengths = arguments.lengths_like(
        logps[0], chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths
    )
    if f_divergence == "reverse_kl":
        return pairs.logistic(pairs.margin(*logps, *lengths, beta=beta))
    gap = divergences.divergence_gap(*logps, f_divergence, f_alpha, lengths=lengths)
    return pairs.logistic(jnp.asarray(beta, gap.dtype) * gap)


def r_dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    chosen_lengths: ArrayLike,
    rejected_lengths: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    alpha: ArrayLike = 0.2,
) -> jax.Array:
    r"""R-DPO: DPO with the difference of lengths subtracted from the margin.

    Use it when long answers win: a penalty on the difference of lengths.

    .. math:: \ell = \mathrm{sp}\bigl(-(\beta\Delta + \alpha (n_w - n_l))\bigr)

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], chosen_lengths [...], rejected_lengths [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      chosen_lengths: numbers of tokens.
      rejected_lengths: the same of the rejected answers.
      beta: positive.
      alpha: what a token more is worth; 0 is DPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Park et al. 2024, arXiv:2403.19159; the sign as in the code of
      arXiv:2410.13828.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import r_dpo_loss
    >>> zero = jnp.zeros(1)
    >>> r_dpo_loss(zero, zero, zero, zero, jnp.array([200]), jnp.array([0]))
    Array([4.248354e-18], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    longer, shorter = arguments.lengths_like(
        logps[0],
        least=0,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
    )
    bonus = arguments.hyper("alpha", alpha, longer.dtype) * (longer - shorter)
    return pairs.logistic(pairs.margin(*logps, beta=beta) + bonus)
