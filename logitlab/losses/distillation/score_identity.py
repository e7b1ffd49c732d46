"""Score identity distillation (SiD): a one- or few-step generator from a denoiser."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.pairs import same_shape
from logitlab.losses.labels import checked

__all__ = [
    "classifier_free_guidance",
    "denoising_score_loss",
    "edm_sigma",
    "few_step_sampler",
    "sid_adversarial_loss",
    "sid_discriminator_loss",
    "sid_generator_loss",
]

NOT_LOSSES = tuple(__all__)


def sid_generator_loss(
    x: ArrayLike,
    teacher_denoised: ArrayLike,
    fake_denoised: ArrayLike,
    *,
    alpha: float = 1.2,
    eps: float = 1e-5,
) -> jax.Array:
    r"""The generator's loss, elementwise.

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

    >>> x = jnp.zeros((1, 2))
    >>> sid_generator_loss(x, x + 1, x + 1)
    Array([[0., 0.]], dtype=float32)
    """
    x = numerics.promote(x, "x")
    same_shape("teacher_denoised", teacher_denoised, "x", x.shape)
    same_shape("fake_denoised", fake_denoised, "x", x.shape)
    phi = numerics.promote(teacher_denoised, "teacher_denoised").astype(x.dtype)
    psi = numerics.promote(fake_denoised, "fake_denoised").astype(x.dtype)
    pixels = tuple(range(1, x.ndim))
    bad = jnp.isnan(x) | jnp.isnan(phi) | jnp.isnan(psi)
    bad = jnp.any(bad, pixels, keepdims=True)
    x, phi, psi = (jnp.where(bad, 0, a) for a in (x, phi, psi))
    weight = jnp.mean(jnp.abs(x - phi), pixels, keepdims=True)
    weight = jax.lax.stop_gradient(jnp.maximum(weight, eps))
    gap = phi - psi
    return jnp.where(bad, 0, gap * ((phi - x) - alpha * gap) / weight)


def denoising_score_loss(
    x: ArrayLike,
    fake_denoised: ArrayLike,
    sigma: ArrayLike,
    *,
    sigma_data: float = 0.5,
) -> jax.Array:
    r"""The fake denoiser's loss, elementwise.

    .. math:: \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2} (\psi - x)^2

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

    >>> denoising_score_loss(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.float32([0.5]))
    Array([[8.]], dtype=float32)
    """
    x = jax.lax.stop_gradient(numerics.promote(x, "x"))
    same_shape("fake_denoised", fake_denoised, "x", x.shape)
    psi = numerics.promote(fake_denoised, "fake_denoised").astype(x.dtype)
    return _edm_weight(sigma, sigma_data, x) * (psi - x) ** 2


def sid_adversarial_loss(fake_logits: ArrayLike, *, clip: float = 10.0) -> jax.Array:
    r"""The generator's part against a discriminator, elementwise.

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

    >>> sid_adversarial_loss(jnp.float32([0.0]))
    Array([0.6931472], dtype=float32)
    """
    checked("clip", clip, lambda c: c > 0, "positive")
    d = numerics.promote(fake_logits, "fake_logits")
    return jax.nn.softplus(-jnp.clip(d, -clip, clip))


def sid_discriminator_loss(
    real_logits: ArrayLike,
    fake_logits: ArrayLike,
    sigma: ArrayLike,
    *,
    sigma_data: float = 0.5,
) -> jax.Array:
    r"""The discriminator's loss on pairs of real and generated samples, elementwise.

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

    >>> sid_discriminator_loss(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.float32([0.5]))
    Array([[5.5451775]], dtype=float32)
    """
    real = numerics.promote(real_logits, "real_logits")
    same_shape("fake_logits", fake_logits, "real_logits", real.shape)
    fake = numerics.promote(fake_logits, "fake_logits").astype(real.dtype)
    both = jax.nn.softplus(-real) + jax.nn.softplus(fake)
    return _edm_weight(sigma, sigma_data, real) / 2 * both


def edm_sigma(
    u: ArrayLike,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> jax.Array:
    r"""Noise levels of EDM's ramp, from the smallest at 0 to the largest at 1.

    .. math:: \sigma = \bigl(\sigma_{max}^{1/\rho} + (1 - u)
        (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\bigr)^\rho

    SiD draws u uniformly from [0, 0.8].

    Shapes: u [...] -> [...]

    Raises:
      TypeError: ``u`` is not floating point.

    Source: Karras et al. 2022, arXiv:2206.00364; SiD, arXiv:2404.04057.

    >>> print(edm_sigma(jnp.float32([0, 1])).round(3))
    [2.e-03 8.e+01]
    """
    u = numerics.promote(u, "u")
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (top + (1 - u) * (bottom - top)) ** rho


def classifier_free_guidance(
    cond: ArrayLike, uncond: ArrayLike, scale: ArrayLike
) -> jax.Array:
    r"""Output of a guided denoiser.

    .. math:: u + \kappa (c - u)

    1 is no guidance. Few-step distillation trains against a teacher without guidance
    and an unconditional fake denoiser (Zero-CFG), or guides the fake one negatively
    (Anti-CFG, scale -1; the value is inferred).

    Shapes: cond [...], uncond [...], scale [] -> [...]

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Source: Ho and Salimans 2022, arXiv:2207.12598; few-step SiD, arXiv:2505.12674.

    >>> classifier_free_guidance(jnp.float32([2]), jnp.float32([1]), -1.0)
    Array([0.], dtype=float32)
    """
    same_shape("uncond", uncond, "cond", jnp.shape(cond))
    c, u = numerics.promote(cond, "cond"), numerics.promote(uncond, "uncond")
    return u + scale * (c - u)


def few_step_sampler(
    apply_fn: Callable[[jax.Array, jax.Array], jax.Array],
    key: jax.Array,
    steps: int,
    *,
    shape: tuple[int, ...],
    add_noise: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    t_init: float = 625.0,
    match: Literal["uniform", "final"] = "uniform",
    backprop_steps: int = 1,
    dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
    r"""Samples of a generator of a few steps.

    .. math:: x^{i+1} = G(\text{noise}(x^i, \epsilon_i, t_i), t_i), \quad
        t_i = t_{init} (1 - i / K), \quad x^0 = 0

    Args:
      apply_fn: G, (noisy x, t) -> x.
      key: of ``jax.random``, for the noise and for which step is taken.
      steps: K, static.
      shape: of the samples, [B, ...].
      add_noise: (x, standard normal noise, t) -> noisy x.
      t_init: the first time.
      match: ``"uniform"`` returns the output of a step drawn at random, one for all
        samples, so that the mixture of all steps is matched to the data; ``"final"``
        that of the last.
      backprop_steps: how many steps, up to the one that is returned, the gradient goes
        through; 1 stops it at that step's input [inferred; released code keeps all].
      dtype: of the samples.

    Returns:
      Samples of the given shape.

    Raises:
      ValueError: fewer than one step, or an unknown ``match``.

    Source: Few-Step SiD, Zhou et al. 2025, arXiv:2505.12674, from its abstract and the
      released code of the one-step method.

    >>> sample = few_step_sampler(
    ...     lambda x, t: x / 2,
    ...     jax.random.key(0),
    ...     4,
    ...     shape=(2, 3),
    ...     add_noise=lambda x, noise, t: x + t * noise,
    ... )
    >>> sample.shape
    (2, 3)
    """
    if steps < 1 or backprop_steps < 1:
        raise ValueError(
            f"steps is {steps}, backprop_steps {backprop_steps}, expected at least 1"
        )
    if match not in ("uniform", "final"):
        raise ValueError(f"match is {match!r}, expected 'uniform' or 'final'")
    draw, *keys = jax.random.split(key, steps + 1)
    last = steps - 1
    if match == "uniform":
        last = jax.random.randint(draw, (), 0, steps)
    x = sample = jnp.zeros(shape, dtype)
    for i, noise_key in enumerate(keys):
        t = jnp.asarray(t_init * (1 - i / steps), dtype)
        constant = i <= last - backprop_steps + 1  # its input comes from before
        x = jnp.where(constant, jax.lax.stop_gradient(x), x)
        x = apply_fn(add_noise(x, jax.random.normal(noise_key, shape, dtype), t), t)
        sample = jnp.where(i == last, x, sample)
    return sample


def _edm_weight(sigma, sigma_data, x):
    """Of each sample, with the axes of x."""
    checked("sigma", sigma, lambda s: s > 0, "positive")
    checked("sigma_data", sigma_data, lambda s: s > 0, "positive")
    sigma = jnp.asarray(sigma, x.dtype)
    if sigma.shape != x.shape[:1]:
        raise ValueError(f"sigma has shape {sigma.shape}, expected {x.shape[:1]}")
    sigma = sigma.reshape(-1, *(1,) * (x.ndim - 1))
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
