"""Losses of rankings: a liked item against another one, and whole lists of items.

Losses of lists take relevances in ``labels``, the larger the better, for items on one
axis. Several lists may share it: ``segments`` says which list an item is of, and their
losses are added up. Everything that is asked of pairs costs the square of the axis.
"""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["bpr_loss", "pairwise_bce_loss"]


def bpr_loss(pos: ArrayLike, neg: ArrayLike) -> jax.Array:
    r"""Bayesian personalized ranking (BPR): logistic loss of a clicked item's lead.

    Use it when users clicked some items of a shop or feed (implicit feedback).

    .. math:: \ell = \log(1 + e^{s_- - s_+})

    Shapes: pos [...], neg [...] -> [...]

    Args:
      pos: scores of items that the user has chosen.
      neg: scores of items that the user has not.

    Returns:
      One number per pair in nats, float32 (float64 for float64 scores).

    Raises:
      TypeError: a score is not floating point.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Rendle et al. 2009, arXiv:1205.2618.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bpr_loss
    >>> print(bpr_loss(jnp.float32([40, 0]), jnp.float32([0, 40])))
    [4.248354e-18 4.000000e+01]
    """
    pos, neg = _pair(pos, neg)
    return jax.nn.softplus(neg - pos)


def pairwise_bce_loss(pos: ArrayLike, neg: ArrayLike) -> jax.Array:
    r"""Binary cross-entropies of a clicked item and of another one, summed.

    Use it when clicks are noisy and each should count as its own example.

    .. math:: \ell = \log(1 + e^{-s_+}) + \log(1 + e^{s_-})

    Shapes: pos [...], neg [...] -> [...]

    Args:
      pos: scores of items that the user has chosen.
      neg: scores of items that the user has not.

    Returns:
      One number per pair in nats, float32 (float64 for float64 scores).

    Raises:
      TypeError: a score is not floating point.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for scores up to 80.

    Source: Personalized denoising, Zhang et al. 2025, arXiv:2502.00348.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pairwise_bce_loss
    >>> print(pairwise_bce_loss(jnp.float32(0), jnp.float32(0)).round(4))
    1.3863
    """
    pos, neg = _pair(pos, neg)
    return jax.nn.softplus(-pos) + jax.nn.softplus(neg)


def _pair(pos, neg):
    pos, neg = (
        numerics.promote_to_float32(pos, "pos"),
        numerics.promote_to_float32(neg, "neg"),
    )
    if pos.shape != neg.shape:
        raise ValueError(f"neg has shape {neg.shape}, expected {pos.shape}")
    return pos, neg
