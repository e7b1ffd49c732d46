"""Score matching: the gradient of a log-density, learned from samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.density._features import (
    checked,
    jacobian_rows,
    kept_rows,
    noisy_values,
    rows_like,
)
from logitlab.losses.density.denoisers import x0_regression_loss

__all__ = [
    "ardae_loss",
    "denoising_score_matching_loss",
    "implicit_score_matching_loss",
    "sliced_score_matching_loss",
]

Score = Callable[[jax.Array], jax.Array]


def denoising_score_matching_loss(
    score: Score | ArrayLike,
    x: ArrayLike,
    noise: ArrayLike,
    *,
    sigma: ArrayLike,
    weighting: Literal["sigma2", "none"] = "sigma2",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Denoising score matching: half the squared error of a score, one per example.

    Use it when the score of data under Gaussian noise is learned; take one noise level
    for each example to learn many.

    .. math:: \tfrac12 \lambda \|s(x + \sigma \epsilon) + \epsilon / \sigma\|^2, \quad
        \lambda = \sigma^2 \text{ or } 1

    It is least for the score of the data convolved with :math:`N(0, \sigma^2 I)`. A sum
    over geometric levels with the weights :math:`\sigma^2` trains one network for all.

    Shapes: score [..., D], x [..., D], noise [..., D], mask [...] -> [...]

    Args:
      score: the model's score at ``x + sigma * noise``: a function of such rows, or its
        values there.
      x: data without noise, read where ``score`` is a function; data on a lattice have
        no density, and want noise of their own.
      noise: standard normal.
      sigma: noise level, positive: one number, or one per example [...].
      weighting: "sigma2" keeps the variance of the target at 1; under "none" it is
        ``sigma ** -2``.
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Half squares summed over features, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, ``sigma`` is not positive, or ``weighting`` is
        unknown.

    Numerics: relative error below 1e-5 of the larger of ``sigma * score`` and noise.

    Source: Vincent 2011, "A connection between score matching and denoising
      autoencoders"; many levels: Song and Ermon 2019, arXiv:1907.05600.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import denoising_score_matching_loss
    >>> x, noise = jnp.zeros((1, 2)), jnp.ones((1, 2))
    >>> denoising_score_matching_loss(lambda y: -y, x, noise, sigma=0.5)
    Array([0.5625], dtype=float32)
    """
    if weighting not in ("sigma2", "none"):
        raise ValueError(f"weighting is {weighting!r}, expected 'sigma2' or 'none'")
    s, _, noise, sigma = noisy_values("score", score, x, noise, sigma, mask)
    if weighting == "none":
        return x0_regression_loss(s, -noise / sigma, weight=0.5, mask=mask)
    return x0_regression_loss(sigma * s, -noise, weight=0.5, mask=mask)


def implicit_score_matching_loss(
    score_fn: Score, x: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Implicit (Hyvarinen's) score matching, one value per example.

    Use it when the score is learned without noise and features are few.

    .. math:: \tfrac12 \|s(x)\|^2 + \mathrm{tr} \frac{\partial s}{\partial x}

    It is least for the score of the data, whose density has to vanish at its ends. The
    trace takes one forward-mode product per feature.

    Shapes: x [..., D], mask [...] -> [...]

    Args:
      score_fn: rows [..., D] -> scores [..., D], each of its own row alone.
      x: data.
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Of any sign, float32 (float64 for float64).

    Raises:
      TypeError: ``score_fn`` is no function, ``x`` is not floating point, or ``mask``
        is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5 of the larger term.

    Source: Hyvarinen 2005, "Estimation of non-normalized statistical models by score
      matching".

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import implicit_score_matching_loss
    >>> implicit_score_matching_loss(lambda x: -x, jnp.float32([[3, 4]]))
    Array([10.5], dtype=float32)
    """
    x, keep = kept_rows(x, mask)
    s, trace = jacobian_rows(
        checked(score_fn, "score_fn", x), x, lambda moved, unit: moved * unit
    )
    return jnp.where(keep, jnp.square(s).sum(-1) / 2 + trace, 0)


def sliced_score_matching_loss(
    score_fn: Score,
    x: ArrayLike,
    directions: ArrayLike,
    *,
    variance_reduced: bool = True,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Sliced score matching: the trace seen along random directions, per example.

    Use it when the score is learned without noise and features are many.

    .. math:: v^\top \frac{\partial s}{\partial x} v + \tfrac12 \begin{cases}
        \|s(x)\|^2 & \text{variance reduced} \\ (v^\top s(x))^2 & \text{otherwise}
        \end{cases}

    Its mean over directions v of covariance I is ``implicit_score_matching_loss``. It
    takes one forward-mode product; for several directions, ``vmap`` over them.

    Shapes: x [..., D], directions [..., D], mask [...] -> [...]

    Args:
      score_fn: rows [..., D] -> scores [..., D], each of its own row alone.
      x: data.
      directions: v, of ``jax.random.rademacher`` or ``jax.random.normal``.
      variance_reduced: whether the mean of the second term is taken.
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Of any sign, float32 (float64 for float64).

    Raises:
      TypeError: ``score_fn`` is no function, an array is not floating point, or
        ``mask`` is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5 of the larger term.

    Source: Song et al. 2019, arXiv:1905.07088.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sliced_score_matching_loss
    >>> x, v = jnp.float32([[3, 4]]), jnp.float32([[1, -1]])
    >>> sliced_score_matching_loss(lambda x: -x, x, v)
    Array([10.5], dtype=float32)
    """
    x, keep = kept_rows(x, mask)
    v = rows_like("directions", directions, "x", x, mask)
    s, moved = jax.jvp(checked(score_fn, "score_fn", x), (x,), (v,))
    square = jnp.square(s).sum(-1) if variance_reduced else jnp.square((v * s).sum(-1))
    return jnp.where(keep, (v * moved).sum(-1) + square / 2, 0)


def ardae_loss(
    score: Score | ArrayLike,
    y: ArrayLike,
    noise: ArrayLike,
    *,
    sigma: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Amortized residual denoising autoencoder (AR-DAE), one value per example.

    Use it when the score of noisy data is learned without clean ones, to denoise them
    by ``estimators.tweedie_gaussian`` and its relatives (Noise2Score).

    .. math:: \|\sigma R(y + \sigma u) + u\|^2

    Twice ``denoising_score_matching_loss``, for R estimates a score: that of the noisy
    data where sigma is small. Anneal sigma, by ``estimators.anneal_sigma``.

    Shapes: score [..., D], y [..., D], noise [..., D], mask [...] -> [...]

    Args:
      score: R at ``y + sigma * noise``: a function of such rows, or its values there.
      y: noisy data, read where ``score`` is a function.
      noise: u, standard normal.
      sigma: level of the noise that is added, positive: one number, or one per example.
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Squares summed over features, float32 (float64 for float64); the released code
      takes the mean over pixels.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or ``sigma`` is not positive: at 0 no gradient is
        left.

    Numerics: relative error below 1e-5 of the larger of ``sigma * score`` and noise.

    Source: Noise2Score, Kim and Ye 2021, arXiv:2106.07009, as in
      github.com/cubeyoung/Noise2Score; AR-DAE, Lim et al. 2020, arXiv:2006.05164.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ardae_loss
    >>> ardae_loss(lambda y: -y, jnp.zeros((1, 2)), jnp.ones((1, 2)), sigma=0.5)
    Array([1.125], dtype=float32)
    """
    s, _, noise, sigma = noisy_values("score", score, y, noise, sigma, mask, "y")
    return x0_regression_loss(sigma * s, -noise, mask=mask)
