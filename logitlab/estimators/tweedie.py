"""Denoising in closed form with a score: Tweedie's formula and its relatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_same_shape, hyper, per_row

__all__ = [
    "anneal_sigma",
    "dae_score",
    "score_from_x0",
    "tweedie_gamma",
    "tweedie_gaussian",
    "tweedie_poisson",
    "x0_from_score",
]


def tweedie_gaussian(
    y: ArrayLike, score: ArrayLike, *, variance: ArrayLike
) -> jax.Array:
    r"""Posterior mean of data behind Gaussian noise.

    .. math:: E[x | y] = y + \sigma^2 \nabla \log p(y)

    Shapes: y [..., D], score [..., D] -> [..., D]

    Args:
      y: noisy data.
      score: of their density at y, such as what ``losses.ardae_loss`` learns.
      variance: of the noise, positive: one number, or one per example [...].

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``variance`` is not positive.

    Source: Robbins 1956; Noise2Score, Kim and Ye 2021, arXiv:2106.07009.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import tweedie_gaussian
    >>> tweedie_gaussian(jnp.float32([2]), jnp.float32([-1]), variance=0.5)
    Array([1.5], dtype=float32)
    """
    y, score = _rows(y, score, "y", "score")
    return y + _positive("variance", variance, y) * score


def tweedie_poisson(
    y: ArrayLike,
    score: ArrayLike,
    *,
    zeta: ArrayLike,
    max_score: ArrayLike = 30.0,
) -> jax.Array:
    r"""Estimate of data behind Poisson noise: about :math:`e^{E[\log x | y]}`.

    .. math:: \hat x = (y + \zeta / 2)\, e^{R(y / \zeta)}

    for :math:`y = \zeta n`, n Poisson of mean :math:`x / \zeta`, and R the score in the
    counts n. The slope of the log-mass in n is :math:`E[\log (x / \zeta) | n] -
    \psi(n + 1)`, and :math:`e^{\psi(n + 1)}` is close to :math:`n + 1/2`, which is 11 %
    less at n = 0 and 2 % less at 1. The paper calls it the posterior mean, which is
    larger.

    Shapes: y [..., D], score [..., D] -> [..., D]

    Args:
      y: noisy data, multiples of zeta.
      score: R, of counts that were smoothed to have a density.
      zeta: what one count is worth, positive: one number, or one per example [...].
      max_score: larger scores are cut off, where a network fails.

    Returns:
      float32 (float64 for float64), above 0 for counts of 0 too.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``zeta`` is not positive.

    Source: Noise2Score, Kim and Ye 2021, arXiv:2106.07009, as in
      github.com/cubeyoung/Noise2Score.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import tweedie_poisson
    >>> tweedie_poisson(jnp.float32([0]), jnp.float32([0]), zeta=0.01)
    Array([0.005], dtype=float32)
    """
    y, score = _rows(y, score, "y", "score")
    zeta = _positive("zeta", zeta, y)
    top = hyper("max_score", max_score, y.dtype)
    return (y + zeta / 2) * jnp.exp(jnp.minimum(score, top))


def tweedie_gamma(
    y: ArrayLike, score: ArrayLike, *, shape: ArrayLike, eps: ArrayLike = 1e-6
) -> jax.Array:
    r"""Estimate of data behind gamma noise: :math:`1 / E[1 / x | y]`, exactly.

    .. math:: \hat x = \frac{\zeta y}{(\zeta - 1) - y \nabla \log p(y)}

    for :math:`y = x g`, g of the gamma distribution of shape and rate zeta, so that its
    mean is 1. The paper calls it the posterior mean, which is larger.

    Shapes: y [..., D], score [..., D] -> [..., D]

    Args:
      y: noisy data, positive.
      score: of their density at y.
      shape: zeta, positive: one number, or one per example [...].
      eps: the least denominator, which only a wrong score falls short of.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``shape`` or ``eps`` is not positive.

    Source: Noise2Score, Kim and Ye 2021, arXiv:2106.07009, as in
      github.com/cubeyoung/Noise2Score.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import tweedie_gamma
    >>> tweedie_gamma(jnp.float32([1]), jnp.float32([-1]), shape=100.0)
    Array([1.], dtype=float32)
    """
    y, score = _rows(y, score, "y", "score")
    zeta = _positive("shape", shape, y)
    least = hyper("eps", eps, y.dtype, lambda e: e > 0, "positive")
    return zeta * y / jnp.maximum(zeta - 1 - y * score, least)


def score_from_x0(
    pred: ArrayLike,
    x: ArrayLike,
    *,
    alpha: ArrayLike,
    h: ArrayLike,
    radius: ArrayLike | None = None,
) -> jax.Array:
    r"""Score of noisy data from a prediction of the clean ones.

    .. math:: s = \frac{\alpha\, \Pi_R(f) - x}{h}, \quad
        x = \alpha x_0 + \sqrt{h} \epsilon

    with the projection to the ball in which the data lie.

    Shapes: pred [..., D], x [..., D] -> [..., D]

    Args:
      pred: f, which ``losses.x0_regression_loss`` trains.
      x: noisy data.
      alpha: of the data, positive: one number, or one per example [...].
      h: variance of the noise, positive, likewise.
      radius: R, or None for no projection.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is not positive.

    Source: Han et al. 2024, arXiv:2401.15604.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import score_from_x0
    >>> f, x = jnp.float32([[3, 4]]), jnp.zeros((1, 2))
    >>> print(score_from_x0(f, x, alpha=0.5, h=0.75, radius=1.5).round(3))
    [[0.6 0.8]]
    """
    x, pred = _rows(x, pred, "x", "pred")
    alpha, h = _positive("alpha", alpha, x), _positive("h", h, x)
    if radius is not None:
        radius = hyper("radius", radius, x.dtype, lambda r: r > 0, "positive")
        norm = jnp.linalg.norm(jax.lax.stop_gradient(pred), axis=-1, keepdims=True)
        outside = norm > radius
        safe = jnp.where(outside, pred, 1)
        onto = safe * radius / jnp.linalg.norm(safe, axis=-1, keepdims=True)
        pred = jnp.where(outside, onto, pred)
    return (alpha * pred - x) / h


def x0_from_score(
    score: ArrayLike, x: ArrayLike, *, alpha: ArrayLike, h: ArrayLike
) -> jax.Array:
    r"""Posterior mean of clean data from the score of noisy ones.

    .. math:: E[x_0 | x] = \frac{x + h s}{\alpha}

    The inverse of ``score_from_x0``, and ``tweedie_gaussian`` where alpha is 1.

    Shapes: score [..., D], x [..., D] -> [..., D]

    Args:
      score: of the noisy data at x.
      x: noisy data.
      alpha: of the data, positive: one number, or one per example [...].
      h: variance of the noise, positive, likewise.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is not positive.

    Source: Han et al. 2024, arXiv:2401.15604.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import x0_from_score
    >>> x0_from_score(jnp.float32([-1]), jnp.float32([2]), alpha=0.5, h=0.75)
    Array([2.5], dtype=float32)
    """
    x, _ = _rows(x, score, "x", "score")
    return tweedie_gaussian(x, score, variance=h) / _positive("alpha", alpha, x)


def dae_score(
    reconstruction: ArrayLike, x: ArrayLike, *, sigma: ArrayLike
) -> jax.Array:
    r"""Score that an autoencoder trained with noise knows.

    .. math:: s(x) = \frac{r(x) - x}{\sigma^2}

    Of the best denoising autoencoder it is the score of data behind noise of sigma;
    that of the data themselves is :math:`O(\sigma^2)` away.

    Shapes: reconstruction [..., D], x [..., D] -> [..., D]

    Args:
      reconstruction: r(x), of a model that ``losses.denoising_reconstruction_loss`` or
        ``losses.contractive_reconstruction_loss`` trained.
      x: where the score is wanted.
      sigma: of the training, positive: one number, or one per example [...].

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``sigma`` is not positive.

    Source: Alain and Bengio 2014, arXiv:1211.4246.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import dae_score
    >>> dae_score(jnp.float32([1]), jnp.float32([2]), sigma=0.5)
    Array([-4.], dtype=float32)
    """
    x, r = _rows(x, reconstruction, "x", "reconstruction")
    return (r - x) / _positive("sigma", sigma, x) ** 2


def anneal_sigma(
    step: ArrayLike, *, sigma_max: ArrayLike, sigma_min: ArrayLike, steps: ArrayLike
) -> jax.Array:
    r"""Noise level of ``losses.ardae_loss`` at a step of training.

    .. math:: \sigma_{max} + \min(\mathrm{step} / T, 1) (\sigma_{min} - \sigma_{max})

    The paper goes from 0.05 to 0.001 in 22000 steps for Gaussian and gamma noise on
    pixels in [0, 1], and from 1 to 0.5 counts for Poisson noise.

    Shapes: step [...] -> [...]

    Args:
      step: how many are done, 0 or more.
      sigma_max: the first level.
      sigma_min: that from step T on.
      steps: T, positive.

    Returns:
      float32 (float64 for a float64 ``step``).

    Raises:
      ValueError: ``steps`` or a level is not positive.

    Source: Noise2Score, Kim and Ye 2021, arXiv:2106.07009, as in
      github.com/cubeyoung/Noise2Score.

    >>> from logitlab.estimators import anneal_sigma
    >>> print(anneal_sigma(500, sigma_max=0.5, sigma_min=0.1, steps=1000))
    0.3
    """
    step = jnp.asarray(step)
    dtype = jnp.promote_types(step.dtype, jnp.float32)
    high, low, steps = (
        hyper(name, value, dtype, lambda v: v > 0, "positive")
        for name, value in (
            ("sigma_max", sigma_max),
            ("sigma_min", sigma_min),
            ("steps", steps),
        )
    )
    return high + jnp.clip(step.astype(dtype) / steps, 0, 1) * (low - high)


def _rows(x, other, name, other_name):
    x = numerics.promote_to_float32(x, name)
    check_same_shape(other_name, other, name, x.shape)
    return x, numerics.promote_to_float32(other, other_name).astype(x.dtype)


def _positive(name, value, x):
    """One number for every row, with the axes of ``x``; numbers alone are rows too."""
    if x.ndim == 0:
        return hyper(name, value, x.dtype, lambda v: v > 0, "positive")
    return per_row(name, value, x, lambda v: v > 0, "positive")
