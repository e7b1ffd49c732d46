"""Sampling weights of personal losses in recommendation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["personal_loss_probs", "personal_loss_resample"]


def personal_loss_probs(
    losses: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Sampling probabilities of a user's items: larger for smaller losses.

    .. math:: p_i = e^{-\ell_i / T} / \sum_j e^{-\ell_j / T}

    Shapes: losses [..., K], where [..., K] -> [..., K]

    Args:
      losses: of the items of one user along ``axis``; an infinite one is never drawn.
      temperature: T, positive; near 0 the cheapest item is drawn, with ``inf`` any.
      axis: the axis of items.
      where: bool, the items that there are, for users with fewer.

    Returns:
      Probabilities, 0 where hidden, float32 (float64 for float64 losses).

    Raises:
      TypeError: ``losses`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no items, ``where`` does not broadcast, or
        ``temperature`` is not positive.

    Numerics: relative error below 1e-5 for exponents :math:`(\ell_i - \min \ell) / T`
      up to 80.

    Source: Personalized denoising, Zhang et al. 2025, arXiv:2502.00348.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import personal_loss_probs
    >>> [f"{p:.4f}" for p in personal_loss_probs(jnp.float32([0.2, 0.5, 0.3]))]
    ['0.7054', '0.0351', '0.2595']
    """
    z = _scores(losses, temperature, axis, where)
    return jnp.moveaxis(numerics.softmax(z), -1, axis)


def personal_loss_resample(
    key: jax.Array,
    losses: ArrayLike,
    items: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Draws one item of each user, those with small losses more often.

    With the probabilities of ``personal_loss_probs``. Train on what comes out and on
    the negative that the losses were computed with. No gradient reaches the losses.

    Shapes: losses [..., K], items [..., K], where [..., K] -> [...]

    Args:
      key: of ``jax.random``.
      losses: of a pool of K positives per user, under the current model; the paper
        takes 5, after 5 epochs of plain training.
      items: what to draw from, of any dtype, such as indices.
      temperature: T, positive; 0.1 in the paper.
      where: bool, the items that there are. Without any the first is returned.

    Raises:
      TypeError: ``losses`` is not floating point or ``where`` is not bool.
      ValueError: wrong shapes, or ``temperature`` is not positive.

    Source: Personalized denoising, Zhang et al. 2025, arXiv:2502.00348,
      github.com/Kaike-Zhang/PLD.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.weights import personal_loss_resample
    >>> losses, items = jnp.float32([2, 0, 3]), jnp.array([17, 4, 8])
    >>> personal_loss_resample(jax.random.key(0), losses, items)
    Array(4, dtype=int32)
    """
    z = jax.lax.stop_gradient(_scores(losses, temperature, -1, where))
    items = jnp.asarray(items)
    if items.shape != z.shape:
        raise ValueError(f"items has shape {items.shape}, expected {z.shape}")
    at = jax.random.categorical(key, z)
    return jnp.take_along_axis(items, at[..., None], -1)[..., 0]


def _scores(losses, temperature, axis, where):
    """Minus the losses above the smallest, over the temperature; -inf where hidden."""
    z = numerics.prepare_logits(
        -numerics.promote_to_float32(losses, "losses"),
        axis=axis,
        where=where,
        name="losses",
    )
    temperature = hyper(
        "temperature", temperature, z.dtype, lambda t: t > 0, "positive"
    )
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))  # only an offset
    shown = z > -jnp.inf
    below = jnp.where(shown, z, 0) - jnp.where(top == -jnp.inf, 0, top)
    return jnp.where(shown, below / temperature, -jnp.inf)
