"""Estimates of a divergence from a reference policy, token by token."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper
from logitlab.rl import _operands as operands

__all__ = ["kl_k1", "kl_k2", "kl_k3"]


def kl_k1(
    logps: ArrayLike, ref_logps: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""k1 estimator of the KL divergence from a reference, one value per token.

    Use it when you log a KL divergence from the reference.

    .. math:: \log \pi_t - \log \pi^{ref}_t

    Unbiased under samples of the policy, and often negative. Its gradient is not that
    of the divergence: it belongs in rewards.

    Shapes: logps [..., T], ref_logps [..., T], mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      ref_logps: those under the reference; no gradient.
      mask: bool, the tokens that count; by default all.

    Returns:
      Nats, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ.

    Numerics: one rounding.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import kl_k1
    >>> kl_k1(jnp.float32([-1, -2]), jnp.float32([-2, -1]))
    Array([ 1., -1.], dtype=float32)
    """
    return -_log_ratio(logps, ref_logps, mask)


def kl_k2(
    logps: ArrayLike, ref_logps: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""k2 estimator of the KL divergence from a reference, one value per token.

    Use it when you want a KL estimate with a sound gradient.

    .. math:: \tfrac12 (\log \pi_t - \log \pi^{ref}_t)^2

    Shapes: logps [..., T], ref_logps [..., T], mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      ref_logps: those under the reference; no gradient.
      mask: bool, the tokens that count; by default all.

    Returns:
      Nats, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ.

    Numerics: two roundings; overflows in float32 for log-ratios above 1e19.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import kl_k2
    >>> kl_k2(jnp.float32([-1, -2]), jnp.float32([-2, -1]))
    Array([0.5, 0.5], dtype=float32)
    """
    return _log_ratio(logps, ref_logps, mask) ** 2 / 2


def kl_k3(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    *,
    clip: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""k3 estimator of the KL divergence from a reference, one value per token.

    Use it when you add GRPO's KL penalty.

    .. math:: e^r - r - 1, \quad r = \log \pi^{ref}_t - \log \pi_t

    Unbiased under samples of the policy, and never negative. GRPO adds 0.04 of it to
    the clipped surrogate.

    Shapes: logps [..., T], ref_logps [..., T], mask [..., T] -> [..., T]

    Args:
      logps: log-probabilities of the sampled tokens under the policy.
      ref_logps: those under the reference; no gradient.
      clip: the largest value, positive, beyond which there is no gradient; 10 in
        ``verl``.
      mask: bool, the tokens that count; by default all.

    Returns:
      Nats, float32 (float64 for float64 ``logps``), 0 where masked.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or ``clip`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for log-ratios from 1e-15
      to 80; the formula as it stands is all rounding error below 1e-3. Infinite, unless
      clipped, where :math:`e^r` is.

    Source: Schulman 2020, "Approximating KL divergence"; GRPO, Shao et al. 2024,
      arXiv:2402.03300.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import kl_k3
    >>> kl_k3(jnp.float32([-1e-4, -1e3]), jnp.float32([0, 0]), clip=10.0)
    Array([5.0001665e-09, 1.0000000e+01], dtype=float32)
    """
    r = _log_ratio(logps, ref_logps, mask)
    if clip is None:
        return numerics.exp_excess(r)
    clip = hyper("clip", clip, r.dtype, lambda c: c > 0, "positive")
    over = numerics.exp_excess(jax.lax.stop_gradient(r)) > clip
    return jnp.where(over, clip, numerics.exp_excess(jnp.where(over, 0, r)))


def _log_ratio(logps, ref_logps, mask):
    """That of the reference to the policy."""
    lp, keep = operands.tokens(logps, mask, "logps")
    return operands.constant(ref_logps, lp, keep, "ref_logps") - lp
