"""Denoisers, autoencoders and clean data as targets: regressions that hold a score."""

from __future__ import annotations

from collections.abc import Callable

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
from logitlab.numerics.arguments import hyper, per_row, weighted

__all__ = [
    "contractive_reconstruction_loss",
    "denoising_reconstruction_loss",
    "noprop_block_loss",
    "x0_regression_loss",
]

Reconstruction = Callable[[jax.Array], jax.Array]


def x0_regression_loss(
    pred: ArrayLike,
    x0: ArrayLike,
    *,
    weight: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Weighted squared error of predicted clean data, one value per example.

    Use it when a diffusion model predicts the clean data of noisy ones; stop early if
    these are few.

    .. math:: \lambda \|f - x_0\|^2

    It is least for :math:`E[x_0 | x_t]`, of which ``estimators.score_from_x0`` makes
    the score. With :math:`x_t = \alpha x_0 + \sqrt{h} \epsilon` and the weight
    :math:`\alpha^2 / h^2` it is the error :math:`\|s + \epsilon / \sqrt{h}\|^2` of that
    score. All losses of denoising call it. How times are weighed is inferred from the
    paper's abstract, so that the weight is the caller's.

    Shapes: pred [..., D], x0 [..., D], mask [...] -> [...]

    Args:
      pred: of the model.
      x0: clean data.
      weight: of the noise level, at least 0: one number, or one per example [...].
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Squares summed over features, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or ``weight`` is negative.

    Numerics: relative error below 1e-5 of the larger of ``pred`` and ``x0``.

    Source: Han et al. 2024, arXiv:2401.15604.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import x0_regression_loss
    >>> x0_regression_loss(jnp.float32([[3, 4]]), jnp.zeros((1, 2)), weight=0.5)
    Array([12.5], dtype=float32)
    """
    pred, keep = kept_rows(pred, mask, "pred")
    x0 = rows_like("x0", x0, "pred", pred, mask)
    weight = per_row("weight", weight, pred, lambda w: w >= 0, "at least 0")[..., 0]
    losses = weighted(weight, jnp.square(pred - x0).sum(-1))
    return losses if mask is None else jnp.where(keep, losses, 0)


def denoising_reconstruction_loss(
    reconstruction: Reconstruction | ArrayLike,
    x: ArrayLike,
    noise: ArrayLike,
    *,
    sigma: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared error of a denoising autoencoder, one value per example.

    Use it when an autoencoder should know the score of the data.

    .. math:: \|r(x + \sigma \epsilon) - x\|^2

    It is least for :math:`x + \sigma^2 \nabla \log (p * N(0, \sigma^2 I))(x)`, exactly,
    of which ``estimators.dae_score`` makes the score. The error is no energy: it
    vanishes at maxima, minima and saddles alike.

    Shapes: reconstruction [..., D], x [..., D], noise [..., D], mask [...] -> [...]

    Args:
      reconstruction: r at ``x + sigma * noise``: a function of such rows, or its values
        there.
      x: data without noise.
      noise: standard normal.
      sigma: noise level, positive: one number, or one per example [...].
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Squares summed over features, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or ``sigma`` is not positive.

    Numerics: relative error below 1e-5 of the larger of reconstruction and ``x``.

    Source: Alain and Bengio 2014, arXiv:1211.4246.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import denoising_reconstruction_loss
    >>> x, noise = jnp.zeros((1, 2)), jnp.ones((1, 2))
    >>> denoising_reconstruction_loss(lambda y: y / 2, x, noise, sigma=1.0)
    Array([0.5], dtype=float32)
    """
    r, x, _, _ = noisy_values("reconstruction", reconstruction, x, noise, sigma, mask)
    return x0_regression_loss(r, x, mask=mask)


def contractive_reconstruction_loss(
    r_fn: Reconstruction,
    x: ArrayLike,
    directions: ArrayLike | None = None,
    *,
    sigma: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared error and contraction of a whole autoencoder, one value per example.

    Use it when ``denoising_reconstruction_loss`` is wanted without its noise.

    .. math:: \|r(x) - x\|^2 + \sigma^2 \|\partial r / \partial x\|_F^2

    For small sigma it is least near :math:`x + \sigma^2 \nabla \log p(x)`. The penalty
    is on the reconstruction, not on the code alone.

    Shapes: x [..., D], directions [..., D], mask [...] -> [...]

    Args:
      r_fn: rows [..., D] -> reconstructions [..., D], each of its own row alone.
      x: data.
      directions: random ones of covariance I, which estimate the penalty without bias
        by one forward-mode product; None takes one product per feature.
      sigma: positive: one number, or one per example [...].
      mask: bool, the examples that take part; others cost 0.

    Returns:
      Squares summed over features, float32 (float64 for float64).

    Raises:
      TypeError: ``r_fn`` is no function, an array is not floating point, or ``mask`` is
        not bool.
      ValueError: the shapes differ, or ``sigma`` is not positive.

    Numerics: relative error below 1e-5 of the larger of reconstruction and ``x``.

    Source: Alain and Bengio 2014, arXiv:1211.4246.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import contractive_reconstruction_loss
    >>> contractive_reconstruction_loss(lambda x: x / 2, jnp.ones((1, 2)), sigma=2.0)
    Array([2.5], dtype=float32)
    """
    x, _ = kept_rows(x, mask)
    sigma = per_row("sigma", sigma, x, lambda s: s > 0, "positive")
    r_fn = checked(r_fn, "r_fn", x)
    if directions is None:
        r, penalty = jacobian_rows(r_fn, x, lambda moved, _: jnp.square(moved))
    else:
        v = rows_like("directions", directions, "x", x, mask)
        r, moved = jax.jvp(r_fn, (x,), (v,))
        penalty = jnp.square(moved).sum(-1)
    losses = x0_regression_loss(r, x) + jnp.square(sigma[..., 0]) * penalty
    return losses if mask is None else jnp.where(jnp.asarray(mask), losses, 0)


def noprop_block_loss(
    u_hat: ArrayLike,
    u: ArrayLike,
    *,
    snr_diff: ArrayLike,
    steps: int,
    eta: ArrayLike = 0.1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Loss of one block of NoProp, which denoises the label, one value per example.

    Use it when blocks of a network are trained side by side, none through another.

    .. math:: \frac{T \eta}{2} (\mathrm{SNR}_t - \mathrm{SNR}_{t-1}) \|\hat u_t - u\|^2

    Its mean over blocks t drawn evenly and the cross-entropy of the last latent's
    read-out make the bound that NoProp descends, up to :math:`KL(q(z_0 | y), N(0, I)) =
    \tfrac12 (\bar\alpha_0 \|u\|^2 - D (\bar\alpha_0 + \log(1 - \bar\alpha_0)))`,
    which counts where embeddings are learned.

    Shapes: u_hat [..., D], u [..., D], mask [...] -> [...]

    Args:
      u_hat: the block's prediction from a latent of the step before.
      u: embeddings of the labels.
      snr_diff: of ``models.noprop_schedule``, at least 0: one number, or one per
        example [...].
      steps: T, how many blocks there are.
      eta: weight of the blocks.
      mask: bool, the examples that take part; others cost 0.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or a weight is negative.

    Numerics: relative error below 1e-5 of the larger of ``u_hat`` and ``u``.

    Source: NoProp, Li, Teh and Pascanu 2025, arXiv:2503.24322.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import noprop_block_loss
    >>> u = jnp.float32([[0, 1]])
    >>> noprop_block_loss(u[:, ::-1], u, snr_diff=0.5, steps=10, eta=0.1)
    Array([0.5], dtype=float32)
    """
    u_hat, _ = kept_rows(u_hat, mask, "u_hat")
    snr_diff = per_row("snr_diff", snr_diff, u_hat, lambda d: d >= 0, "at least 0")
    eta = hyper("eta", eta, u_hat.dtype, lambda e: e >= 0, "at least 0")
    steps = hyper("steps", steps, u_hat.dtype, lambda n: n >= 1, "at least 1")
    weight = steps * eta / 2 * snr_diff[..., 0]
    return x0_regression_loss(u_hat, u, weight=weight, mask=mask)
