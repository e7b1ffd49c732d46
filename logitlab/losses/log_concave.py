"""Losses of sums of log-concave terms, and their convex upper parts.

Minus the log of a sum of log-concave terms is not convex; its partial losses, minus the
log of each term, are. ``logitlab.optim`` has the descent that goes with them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["checkered_cross_loss", "cross_loss", "sum_log_concave_loss"]


def sum_log_concave_loss(partial_losses: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Negative log of a sum of terms, given the negative log of each term.

    Use it when a label can come about in several ways.

    .. math:: F = -\log \sum_s e^{-\ell_s}

    Shapes: partial_losses [..., S] -> [...]

    Args:
      partial_losses: :math:`\ell_s`, one for each term of the sum; ``inf`` for a term
        that is 0.
      axis: of the terms.

    Returns:
      Nats, float32 (float64 for float64 input).

    Raises:
      TypeError: ``partial_losses`` is not floating point.
      ValueError: no such axis, or no terms.

    Numerics: relative error below 1e-5, value and gradient; a sum near 1 does not round
      to 0.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sum_log_concave_loss
    >>> sum_log_concave_loss(jnp.log(jnp.float32([4, 4])))
    Array(0.6931472, dtype=float32)
    """
    z = numerics.prepare_logits(partial_losses, axis=axis, name="partial_losses")
    return -numerics.logsumexp(-z)


def cross_loss(
    partial_losses: ArrayLike, weights: ArrayLike, *, axis: int = -1
) -> jax.Array:
    r"""Negative log of a sum of terms, whose gradient uses given weights.

    Use it when the gradient should use the weights of another point.

    .. math:: F = -\log \sum_s e^{-\ell_s}, \qquad
        \nabla^{\mu} F = \sum_s \mu_s \nabla \ell_s

    One number per example, for any training loop: what :func:`value_and_cross_grad`
    differentiates. With the weights of the point itself, ``softmax(-partial_losses)``,
    it is the ordinary gradient.

    Shapes: partial_losses [..., S], weights [..., S] -> [...]

    Args:
      partial_losses: :math:`\ell_s`, one for each term of the sum; ``inf`` for a term
        that is 0.
      weights: :math:`\mu`, points of the simplex, broadcastable to ``partial_losses``.
        No gradient passes; a term of weight 0 gives none.
      axis: of the terms.

    Returns:
      Nats, float32 (float64 for float64 input). Derivatives of second order are those
      of :math:`\sum_s \mu_s \ell_s`.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: no such axis, no terms, ``weights`` does not broadcast, or, where its
        values are known, is not on the simplex.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cross_loss
    >>> first = jnp.float32([1, 0])
    >>> jax.grad(cross_loss)(jnp.float32([3, 1]), first)
    Array([1., 0.], dtype=float32)
    """
    z = numerics.prepare_logits(partial_losses, axis=axis, name="partial_losses")
    mu = numerics.promote_to_float32(weights, "weights")
    if mu.ndim == z.ndim:
        mu = jnp.moveaxis(mu, axis, -1)
    mu = on_simplex(mu.astype(z.dtype), z.shape)
    value = jax.lax.stop_gradient(-numerics.logsumexp(-z))
    used = (mu > 0) & (z < jnp.inf)  # a term that is 0 has no slope
    z = jnp.where(used, z, 0)
    return value + jnp.sum(mu * (z - jax.lax.stop_gradient(z)), -1)


def checkered_cross_loss(
    factor_logits: ArrayLike,
    responsibilities: ArrayLike,
    *,
    axis: int = -1,
    factor_axis: int = -2,
) -> jax.Array:
    r"""Cross-entropies of all factors of a checkered model, with their soft targets.

    Use it when all factors get soft targets at once.

    .. math:: \sum_k \Big( -\sum_l q_{k,l} \log \mathrm{softmax}(Z_k)_l \Big)

    Its gradient in the factor logits, softmax(Z) - q, is the cross-gradient of the
    checkered cross-entropy, without the :math:`C^{m-1}` partial losses of each example:
    of their weights it only takes what each factor drew. It is one softmax regression
    for each factor, and convex.

    Shapes: factor_logits [..., M, C], responsibilities [..., M, C] -> [...]

    Args:
      factor_logits: as in ``links.checkered``.
      responsibilities: q, from ``links.checkered_responsibilities`` at a reference, or
        from :func:`dirichlet_responsibilities`. No gradient passes.
      axis: the class axis.
      factor_axis: the axis of the factors.

    Returns:
      Nats, float32 (float64 for float64 input): the convex function, not the loss.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: no such axis, the shapes differ, or, where the values are known, a
        row of ``responsibilities`` is not on the simplex.

    Source: Achab 2023, arXiv:2309.15298, proposition 5.7.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import checkered_cross_loss
    >>> z, q = jnp.zeros((2, 2)), jnp.float32([[1, 0], [0.5, 0.5]])
    >>> checkered_cross_loss(z, q)
    Array(1.3862944, dtype=float32)
    """
    z, q = (
        jnp.asarray(factor_logits),
        numerics.promote_to_float32(responsibilities, "responsibilities"),
    )
    if q.shape != z.shape:
        raise ValueError(f"responsibilities has shape {q.shape}, expected {z.shape}")
    if not -z.ndim <= factor_axis < z.ndim or factor_axis % z.ndim == axis % z.ndim:
        raise ValueError(
            f"factor_axis {factor_axis} is not another axis of factor_logits with "
            f"shape {z.shape}"
        )
    log_p = numerics.log_softmax(z, axis=axis)
    q = on_simplex(jnp.moveaxis(q, axis, -1), None, "responsibilities")
    q = jnp.moveaxis(q, -1, axis).astype(log_p.dtype)
    return -jnp.sum(jnp.where(q > 0, q * log_p, 0), (axis, factor_axis))


def on_simplex(weights, shape, name="weights"):
    """Weights without gradient, of a shape, that are checked where they are known."""
    if shape is not None:
        try:
            weights = jnp.broadcast_to(weights, shape)
        except ValueError:
            raise ValueError(
                f"{name} has shape {weights.shape}, expected one that broadcasts to "
                f"the partial losses, {shape}"
            ) from None
    if numerics.is_concrete(weights):
        total = weights.sum(-1)
        if not (jnp.all(weights >= 0) and jnp.all(jnp.abs(total - 1) <= 1e-3)):
            worst = total.ravel()[jnp.argmax(jnp.abs(total - 1))]
            raise ValueError(
                f"{name} has a row that adds up to {worst}, and {weights.min()} as its "
                "smallest number, expected points of the simplex"
            )
    return jax.lax.stop_gradient(weights)
