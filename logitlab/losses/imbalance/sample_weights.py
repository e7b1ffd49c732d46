"""Weights of examples: how rare they look, how much they cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import weighted
from logitlab.weights.likelihoods import Strategy, dequity_weight, loss_weights

__all__ = ["likelihood_weighted_focal_loss", "reweighted_loss"]


def likelihood_weighted_focal_loss(
    loss: ArrayLike,
    likelihood: ArrayLike,
    *,
    eta: ArrayLike = 1.0,
    gamma: ArrayLike = 5.0,
) -> jax.Array:
    r"""Losses weighted by the rarity of their samples' appearance.

    Use it when inputs of some appearance are rare, whatever their class.

    .. math:: w(p_i)\, \ell_i

    Shapes: loss [...], likelihood [...] -> [...]

    Raises:
      ValueError: the shapes differ, or as ``dequity_weight``.

    Source: DatasetEquity 2023, arXiv:2308.09878.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import likelihood_weighted_focal_loss
    >>> likelihood_weighted_focal_loss(jnp.float32([2, 2]), jnp.float32([0, 1]))
    Array([2., 1.], dtype=float32)
    """
    loss = numerics.promote_to_float32(loss, "loss")
    w = dequity_weight(likelihood, eta=eta, gamma=gamma).astype(loss.dtype)
    if w.shape != loss.shape:
        raise ValueError(f"likelihood has shape {w.shape}, expected {loss.shape}")
    out = (w == 0) & ~jnp.isnan(w)
    return jnp.where(out, 0, w * jnp.where(out, 0, loss))


def reweighted_loss(
    losses: ArrayLike,
    *,
    strategy: Strategy = "linupper",
    r: ArrayLike = 0.4,
    delta: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: str | None = None,
    token_share: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: its losses, weighed by ``loss_weights``.

    Use it when examples should count by their own loss, as in pretraining.

    .. math:: \sum_i w_i \ell_i

    Split over ``axis_name``, each device returns its part times their number, so that
    the data-parallel mean is the sum over all (the README's rule). The released trainer
    multiplies by the batch size and each sequence's share of the active tokens as well:
    pass ``token_share`` for that.

    Shapes: losses [...], mask [...], token_share [...] -> []

    Args:
      losses: one per sequence; they get the gradient.
      strategy: as in ``loss_scores``.
      r: as in ``loss_weights``.
      delta: as in ``loss_scores``.
      mask: bool, the losses that take part.
      axis_name: of the mapped axis the batch is split over, if it is.
      token_share: each sequence's share of the whole batch's active tokens.

    Raises:
      ValueError: as ``loss_weights``, or ``token_share`` of another shape.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import reweighted_loss
    >>> reweighted_loss(jnp.float32([2, 2]))
    Array(2., dtype=float32)
    """
    x = numerics.promote_to_float32(losses, "losses")
    keep = numerics.check_mask(mask, x.shape)
    w = loss_weights(
        x, strategy=strategy, r=r, delta=delta, mask=mask, axis_name=axis_name
    )
    count, devices = jnp.sum(keep), 1
    if axis_name is not None:
        devices = jax.lax.psum(1, axis_name)
        count = jax.lax.psum(count, axis_name)
    if token_share is not None:
        share = jnp.asarray(token_share, x.dtype)
        if share.shape != x.shape:
            raise ValueError(f"token_share has shape {share.shape}, expected {x.shape}")
        w = w * jnp.where(keep, share, 0) * count
    return devices * jnp.sum(weighted(w, jnp.where(keep, x, 0)))
