"""Weights of training examples from what they do for a few clean ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["meta_reweight"]


def meta_reweight(
    loss_fn: Callable[[Any, Any], jax.Array],
    params: Any,
    batch: Any,
    meta_batch: Any,
    *,
    inner_lr: ArrayLike,
) -> jax.Array:
    r"""Weights of a batch: how much a step on each example would help on clean data.

    Use it with labels that are wrong or classes that are rare, beside a few examples
    that are clean and balanced. Then step on ``(weights * losses).sum()``.

    .. math:: w_i \propto \Bigl[-\frac{\partial}{\partial \epsilon_i} \ell^v\bigl(\theta
        - \alpha \nabla_\theta \textstyle\sum_j \epsilon_j \ell_j(\theta)\bigr)
        \Bigr]_{\epsilon = 0, +} = \alpha \, \langle \nabla \ell^v, \nabla \ell_i
        \rangle_+

    computed as one directional derivative of all losses: no virtual step is made.

    Args:
      loss_fn: (params, batch) -> losses [B].
      params: a pytree of floats.
      batch: whatever ``loss_fn`` takes.
      meta_batch: clean examples, of which the mean loss counts.
      inner_lr: alpha, positive; it cancels unless the weights under- or overflow.

    Returns:
      Weights [B] at least 0 that add up to 1, float32 (float64 for float64), without a
      gradient; all 0 where no example helps.

    Raises:
      ValueError: ``loss_fn`` does not return [B], or ``inner_lr`` is not positive.

    Source: Ren et al. 2018, Learning to Reweight Examples, arXiv:1803.09050.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import meta_reweight
    >>> def loss(w, xs):
    ...     return (w - xs) ** 2
    >>> meta_reweight(loss, 0.0, jnp.float32([3, 1, -1]), jnp.ones(1), inner_lr=0.1)
    Array([0.75, 0.25, 0.  ], dtype=float32)
    """

    def clean(params):
        losses = _losses(loss_fn, params, meta_batch, "meta_batch")
        return losses.mean()

    params = jax.tree.map(lambda leaf: jnp.asarray(leaf), params)
    slope = jax.grad(clean)(params)
    _, along = jax.jvp(
        lambda params: _losses(loss_fn, params, batch, "batch"), (params,), (slope,)
    )
    rate = hyper("inner_lr", inner_lr, along.dtype, lambda a: a > 0, "positive")
    w = jnp.maximum(rate * along, 0)
    top = jnp.max(w, initial=0)
    w = w / jnp.where(top > 0, top, 1)
    total = jnp.sum(w)
    return jax.lax.stop_gradient(w / jnp.where(total > 0, total, 1))


def _losses(loss_fn, params, batch, name):
    losses = numerics.promote_to_float32(
        loss_fn(params, batch), "what loss_fn returned"
    )
    if losses.ndim != 1:
        raise ValueError(
            f"loss_fn returned shape {losses.shape} for {name}, expected one loss for "
            "each example, [B]"
        )
    return losses
