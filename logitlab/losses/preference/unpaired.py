"""Losses of single answers, good or bad; what they remember is an argument."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import arguments
from logitlab.numerics.arguments import weighted

__all__ = ["bco_loss", "kto_loss"]


def kto_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    is_desirable: ArrayLike,
    *,
    kl: ArrayLike,
    beta: ArrayLike = 0.1,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
) -> jax.Array:
    r"""Kahneman-Tversky optimization (KTO) of rated single answers.

    Use it when answers come with a thumbs-up or thumbs-down, unpaired.

    .. math:: \ell = \lambda_D\, (1 - \sigma(\beta a - \beta z_0))
        \text{ or } \lambda_U\, (1 - \sigma(\beta z_0 - \beta a)), \quad
        a = \log \frac{\pi(y)}{\pi_{ref}(y)}

    for desirable and undesirable answers. With ``kl=0`` this is unpaired APO-zero. The
    paper advises :math:`\lambda_D n_D / (\lambda_U n_U)` between 1 and 4/3.

    Shapes: logps [...], ref_logps [...], is_desirable [...] -> [...]

    Args:
      logps: log-probabilities of the answers, summed over tokens.
      ref_logps: the same under the reference; no gradient.
      is_desirable: bool.
      kl: z_0, a number without gradient, from :func:`kto_kl_estimate`.
      beta: positive.
      desirable_weight: lambda_D.
      undesirable_weight: lambda_U.

    Returns:
      One number per answer, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import kto_loss
    >>> zero = jnp.zeros(2)
    >>> kto_loss(jnp.float32([400, 0]), zero, jnp.array([True, False]), kl=0.0)
    Array([4.248354e-18, 5.000000e-01], dtype=float32)
    """
    rewards, good = _rewards(logps, ref_logps, is_desirable, beta)
    zero = jnp.asarray(beta, rewards.dtype) * arguments.hyper("kl", kl, rewards.dtype)
    x = rewards - jax.lax.stop_gradient(zero)
    weight = jnp.where(
        good,
        arguments.hyper("desirable_weight", desirable_weight, x.dtype),
        arguments.hyper("undesirable_weight", undesirable_weight, x.dtype),
    )
    return weight * numerics.sigmoid(jnp.where(good, -x, x))


def bco_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    is_desirable: ArrayLike,
    density_weight: ArrayLike | None = None,
    *,
    shift: ArrayLike,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Binary classifier optimization (BCO): the reward is a thumbs-up's logit.

    Use it when answers are rated one by one and liked and disliked prompts differ.

    .. math:: \ell = \mathrm{sp}(-(r - \delta)) \text{ or } w\, \mathrm{sp}(r - \delta),
        \quad r = \beta \log \frac{\pi(y)}{\pi_{ref}(y)}

    for desirable and undesirable answers.

    Shapes: logps [...], ref_logps [...], is_desirable [...], density_weight [...]
      -> [...]

    Args:
      logps: log-probabilities of the answers, summed over tokens.
      ref_logps: the same under the reference; no gradient.
      is_desirable: bool.
      density_weight: w, by default 1; see :func:`density_ratio_weight`. Desirable
        answers have none; no gradient.
      shift: delta, a number without gradient: the mean of all rewards so far, those of
        this batch included (:func:`running_mean_update`).
      beta: positive.

    Returns:
      One number per answer in nats, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: Jung et al. 2024, arXiv:2404.04656. Its text has a moving average, its code,
      like :func:`running_mean_update`, the mean of all batches.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bco_loss
    >>> zero = jnp.zeros(2)
    >>> bco_loss(jnp.float32([400, 0]), zero, jnp.array([True, False]), shift=0.0)
    Array([4.248354e-18, 6.931472e-01], dtype=float32)
    """
    rewards, good = _rewards(logps, ref_logps, is_desirable, beta)
    x = rewards - jax.lax.stop_gradient(arguments.hyper("shift", shift, rewards.dtype))
    losses = jax.nn.softplus(jnp.where(good, -x, x))
    if density_weight is None:
        return losses
    weight = jax.lax.stop_gradient(jnp.asarray(density_weight).astype(x.dtype))
    if weight.shape != x.shape:
        raise ValueError(f"density_weight has shape {weight.shape}, expected {x.shape}")
    return jnp.where(good, losses, weighted(jnp.where(good, 1, weight), losses))


def _rewards(logps, ref_logps, is_desirable, beta):
    """Implicit rewards, and which answers are desirable."""
    arguments.positive(beta=beta)
    logps, ref = arguments.logps_like(logps=logps, ref_logps=ref_logps)
    good = _desirable(is_desirable, logps.shape)
    return arguments.log_ratio(logps, jax.lax.stop_gradient(ref), beta), good


def _desirable(is_desirable, shape):
    return numerics.check_mask(jnp.asarray(is_desirable), shape, "is_desirable")
