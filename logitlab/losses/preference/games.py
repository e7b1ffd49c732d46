"""Preferences as a game: INPO and its fixed point, Nash-MD, XPO."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import arguments
from logitlab.numerics.arguments import weighted
from logitlab.targets.teachers import _check_strengths

__all__ = ["inpo_loss", "nash_md_pg_loss", "xpo_loss"]


def inpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    prev_chosen_logps: ArrayLike,
    prev_rejected_logps: ArrayLike,
    *,
    eta: ArrayLike,
    tau: ArrayLike,
) -> jax.Array:
    r"""Iterative Nash policy optimization: one step of mirror descent by self-play.

    Use it when preferences are cyclic and you iterate self-play.

    .. math:: \ell = \Bigl(\Delta_\theta - \frac{\tau}{\eta} \Delta_{ref}
        - \frac{\eta - \tau}{\eta} \Delta_t - \frac{1}{2\eta}\Bigr)^2, \quad
        \Delta = \log \pi(y_w) - \log \pi(y_l)

    with :math:`\pi_t` the policy that wrote both answers. Its minimiser over all pairs
    is :func:`omd_target`. For ``tau = eta`` it is IPO of sums.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], prev_chosen_logps [...], prev_rejected_logps [...]
      -> [...]

    Args:
      chosen_logps: log-probabilities of the answers that won, summed over tokens.
      rejected_logps: the same of those that lost.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      prev_chosen_logps: the same as ``chosen_logps`` under pi_t; no gradient.
      prev_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      eta: at least tau, the inverse step; 7.5e-3 has been used.
      tau: positive, the game's KL strength; a third of eta has been used.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or not 0 < tau <= eta.

    Numerics: relative error below 1e-5 off the minimum.

    Source: Zhang et al. 2024, arXiv:2407.00617; the defaults of a re-implementation.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import inpo_loss
    >>> arrays = jnp.float32([[1], [0], [0.4], [0], [0.7], [0]])
    >>> print(inpo_loss(*arrays, eta=0.5, tau=0.2).round(4))
    [0.3364]
    """
    _check_strengths(eta, tau)
    chosen, rejected, *fixed = arguments.logps_like(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
        prev_chosen_logps=prev_chosen_logps,
        prev_rejected_logps=prev_rejected_logps,
    )
    share = jnp.asarray(tau, chosen.dtype) / jnp.asarray(eta, chosen.dtype)
    ref_chosen, ref_rejected, *prev = map(jax.lax.stop_gradient, fixed)
    good = share * ref_chosen + weighted(1 - share, prev[0])
    bad = share * ref_rejected + weighted(1 - share, prev[1])
    return pairs.squared(pairs.margin(chosen, rejected, good, bad, beta=1.0), eta)


def nash_md_pg_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    win_prob: ArrayLike,
    *,
    beta: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Nash-MD by policy gradients: an answer against one of a mixture policy.

    Use it when you play against a mixture with the reference.

    .. math:: \ell = \beta \sum_t \mathrm{sg}\Bigl[\log \frac{\pi_t}{\pi_{ref, t}}
        \Bigr] \log \pi_t - \bigl(p - \tfrac12\bigr) \sum_t \log \pi_t

    A surrogate: its gradient matters, not its value.

    Shapes: logps [..., T], ref_logps [..., T], win_prob [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the answer's tokens.
      ref_logps: the same under the reference; no gradient.
      win_prob: p, that the answer beats the mixture's; no gradient.
      beta: positive, weight of the KL divergence.
      mask: bool, the tokens that count; by default all.

    Returns:
      One number per answer, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``beta`` is not positive.

    Numerics: relative error below 1e-5. A token of weight 0 costs nothing.

    Source: Munos et al. 2023, arXiv:2312.00886; as in trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import nash_md_pg_loss
    >>> logps = jnp.float32([[-1, -2]])
    >>> nash_md_pg_loss(logps, logps, jnp.ones(1), beta=0.1)
    Array([1.5], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps, ref = arguments.logps_like(logps=logps, ref_logps=ref_logps)
    if not logps.ndim:
        raise ValueError("logps has shape (), expected (..., T)")
    kept = numerics.check_mask(mask, logps.shape)
    logps, ref = jnp.where(kept, logps, 0), jnp.where(kept, ref, 0)
    win = numerics.promote_to_float32(win_prob, "win_prob").astype(logps.dtype)
    if win.shape != logps.shape[:-1]:
        raise ValueError(f"win_prob has shape {win.shape}, expected {logps.shape[:-1]}")
    # One weight for each token: no difference of two large sums.
    weight = arguments.log_ratio(logps, ref, beta) - (win[..., None] - 0.5)
    return jnp.sum(weighted(jax.lax.stop_gradient(weight), logps), -1)


def xpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    ref_sample_logps: ArrayLike,
    *,
    alpha: ArrayLike,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Exploratory preference optimization (XPO): DPO with an exploration bonus.

    Use it when the policy should explore while it learns online.

    .. math:: \ell = \mathrm{sp}(-\beta\Delta) + \alpha \log \pi(y_{ref})

    with :math:`\Delta` as in ``dpo_loss``.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], ref_sample_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      ref_sample_logps: log-probabilities, under the policy, of answers that the
        reference wrote; with gradient.
      alpha: the weight of exploration; 0 is DPO.
      beta: positive.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xie et al. 2024, arXiv:2405.21046; as in trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import xpo_loss
    >>> zero = jnp.zeros(1)
    >>> xpo_loss(jnp.float32([400]), zero, zero, zero, zero, alpha=0.1)
    Array([4.248354e-18], dtype=float32)
    """
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    _, sample = arguments.logps_like(
        chosen_logps=logps[0], ref_sample_logps=ref_sample_logps
    )
    loss = pairs.logistic(pairs.margin(*logps, beta=beta))
    return loss + weighted(alpha, sample, "alpha")
