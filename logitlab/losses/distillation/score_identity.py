"""Score identity distillation (SiD): a one- or few-step generator from a denoiser."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.density.denoisers import x0_regression_loss
from logitlab.numerics.arguments import check_same_shape, hyper

__all__ = [
    "denoising_score_loss",
    "sid_adversarial_loss",
    "sid_discriminator_loss",
    "sid_generator_loss",
]


def sid_generator_loss(
    x: ArrayLike,
    teacher_denoised: ArrayLike,
    fake_denoised: ArrayLike,
    *,
    alpha: ArrayLike = 1.2,
    eps: ArrayLike = 1e-5,
) -> jax.Array:
    r"""The generator's loss, elementwise.

    Use it when a one-step generator learns from a denoiser.

    .. math:: \frac{(\phi - \psi) \bigl[(\phi - x) - \alpha (\phi - \psi)\bigr]}
        {\max(\mathrm{mean} |x - \phi|, \epsilon)}

    with the teacher's output :math:`\phi` and the fake denoiser's :math:`\psi` at the
    same noisy x; the denominator, one for each sample, is a constant. Gradients flow
    through x into both denoisers, whose parameters are frozen. Summed over pixels,
    times 100 and divided by the batch in the released code. With the best fake denoiser
    :math:`E[(\phi - \psi)(\psi - x)] = 0`. On a Gaussian of one pixel, on which the
    denominator then depends, alpha above 1 diverges; with 16 pixels it does not.

    Shapes: x [B, D], teacher_denoised [B, D], fake_denoised [B, D] -> [B, D]

    Args:
      x: of the generator, [B, ...], before noise is added.
      teacher_denoised: x as the teacher sees it through the noise.
      fake_denoised: the same of the fake denoiser.
      alpha: 1.2 for EDM, 1 for text to image.
      eps: the least denominator.

    Returns:
      float32 (float64 for float64). A sample with a NaN anywhere costs 0, without a
      gradient.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Source: Zhou et al. 2024, arXiv:2404.04057; few steps, arXiv:2505.12674.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sid_generator_loss
    >>> x = jnp.zeros((1, 2))
    >>> sid_generator_loss(x, x + 1, x + 1)
    Array([[0., 0.]], dtype=float32)
    """
    x = numerics.promote_to_float32(x, "x")
    check_same_shape("teacher_denoised", teacher_denoised, "x", x.shape)
    check_same_shape("fake_denoised", fake_denoised, "x", x.shape)
    phi = numerics.promote_to_float32(teacher_denoised, "teacher_denoised").astype(
        x.dtype
    )
    psi = numerics.promote_to_float32(fake_denoised, "fake_denoised").astype(x.dtype)
    pixels = tuple(range(1, x.ndim))
    bad = jnp.isnan(x) | jnp.isnan(phi) | jnp.isnan(psi)
    bad = jnp.any(bad, pixels, keepdims=True)
    x, phi, psi = (jnp.where(bad, 0, a) for a in (x, phi, psi))
    size = 2 * max(math.prod(x.shape[1:]), 1)  # half of the mean: a large one fits
    weight = jnp.sum(jnp.abs(x - phi) / size, pixels, keepdims=True)
    weight = jax.lax.stop_gradient(jnp.maximum(weight, hyper("eps", eps, x.dtype) / 2))
    gap = phi - psi
    alpha = hyper("alpha", alpha, x.dtype)
    return jnp.where(bad, 0, gap * (((phi - x) - alpha * gap) / 2 / weight))


def denoising_score_loss(
    x: ArrayLike,
    fake_denoised: ArrayLike,
    sigma: ArrayLike,
    *,
    sigma_data: ArrayLike = 0.5,
) -> jax.Array:
    r"""The fake denoiser's loss, elementwise.

    Use it when the fake denoiser follows the one-step generator of SiD.

    .. math:: \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2} (\psi - x)^2

    It is ``x0_regression_loss`` of each pixel, and so the score matching of
    :math:`(\psi - x_t) / \sigma^2`.

    Shapes: x [B, D], fake_denoised [B, D], sigma [B] -> [B, D]

    Args:
      x: of the generator, [B, ...], a constant.
      fake_denoised: x as the fake denoiser sees it through noise of sigma.
      sigma: positive, one for each sample.
      sigma_data: deviation of the data.

    Raises:
      TypeError: an array is not floating point.
      ValueError: shapes that do not fit, or a deviation that is not positive.

    Source: SiD, Zhou et al. 2024, arXiv:2404.04057; weights of EDM, Karras et al. 2022,
      arXiv:2206.00364.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import denoising_score_loss
    >>> denoising_score_loss(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.float32([0.5]))
    Array([[8.]], dtype=float32)
    """
    x = jax.lax.stop_gradient(numerics.promote_to_float32(x, "x"))
    check_same_shape("fake_denoised", fake_denoised, "x", x.shape)
    psi = numerics.promote_to_float32(fake_denoised, "fake_denoised").astype(x.dtype)
    weight = jnp.broadcast_to(_edm_weight(sigma, sigma_data, x), x.shape)
    return x0_regression_loss(psi[..., None], x[..., None], weight=weight)


def sid_adversarial_loss(
    fake_logits: ArrayLike, *, clip: ArrayLike = 10.0
) -> jax.Array:
    r"""The generator's part against a discriminator, elementwise.

    Use it when the generator also meets a discriminator.

    .. math:: \log(1 + e^{-\mathrm{clip}(d, -c, c)})

    with the discriminator's logits d, high for real data, on noisy samples of the
    generator; beyond the clip there is no gradient. SiDA divides it by the denominator
    of ``sid_generator_loss``, and adds it to that loss with a weight.

    Shapes: fake_logits [...] -> [...]

    Args:
      fake_logits: on the generator's samples; they get the gradient.
      clip: c, positive.

    Raises:
      TypeError: the logits are not floating point.
      ValueError: ``clip`` is not positive.

    Source: SiDA, Zhou et al. 2024, arXiv:2410.14919; few steps, arXiv:2505.12674.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sid_adversarial_loss
    >>> sid_adversarial_loss(jnp.float32([0.0]))
    Array([0.6931472], dtype=float32)
    """
    d = numerics.promote_to_float32(fake_logits, "fake_logits")
    clip = hyper("clip", clip, d.dtype, lambda c: c > 0, "positive")
    return jax.nn.softplus(-jnp.clip(d, -clip, clip))


def sid_discriminator_loss(
    real_logits: ArrayLike,
    fake_logits: ArrayLike,
    sigma: ArrayLike,
    *,
    sigma_data: ArrayLike = 0.5,
) -> jax.Array:
    r"""The discriminator's loss on pairs of real and generated samples, elementwise.

    Use it when you train the discriminator of ``sid_adversarial_loss``.

    .. math:: \frac{\sigma^2 + \sigma_d^2}{2 (\sigma \sigma_d)^2}
        \bigl[\log(1 + e^{-d_{real}}) + \log(1 + e^{d_{fake}})\bigr]

    Shapes: real_logits [B, D], fake_logits [B, D], sigma [B] -> [B, D]

    Args:
      real_logits: on real data under noise of sigma, [B, ...].
      fake_logits: on the generator's samples under the same noise.
      sigma: positive, one for each sample.
      sigma_data: deviation of the data.

    Raises:
      TypeError: an array is not floating point.
      ValueError: shapes that do not fit, or a deviation that is not positive.

    Source: as ``sid_adversarial_loss``.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sid_discriminator_loss
    >>> sid_discriminator_loss(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.float32([0.5]))
    Array([[5.5451775]], dtype=float32)
    """
    real = numerics.promote_to_float32(real_logits, "real_logits")
    check_same_shape("fake_logits", fake_logits, "real_logits", real.shape)
    fake = numerics.promote_to_float32(fake_logits, "fake_logits").astype(real.dtype)
    both = jax.nn.softplus(-real) + jax.nn.softplus(fake)
    return _edm_weight(sigma, sigma_data, real) / 2 * both


def _edm_weight(sigma, sigma_data, x):
    """Of each sample, with the axes of x."""
    sigma, sigma_data = (
        hyper(name, value, x.dtype, lambda s: s > 0, "positive")
        for name, value in (("sigma", sigma), ("sigma_data", sigma_data))
    )
    if sigma.shape != x.shape[:1]:
        raise ValueError(f"sigma has shape {sigma.shape}, expected {x.shape[:1]}")
    sigma = sigma.reshape(-1, *(1,) * (x.ndim - 1))
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
