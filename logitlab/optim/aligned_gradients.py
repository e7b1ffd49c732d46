"""Gradient surgery for two objectives, and the alignment of their gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def align_gradients(main_grads: Any, aux_grads: Any) -> Any:
    r"""Sum of two gradients, the second without its conflict with the first.

    .. math:: g_1 + g_2 - \frac{\min(g_1 \cdot g_2, 0)}{\|g_1\|^2} g_1

    with all leaves taken as one vector: one-sided gradient surgery. The main gradient
    is never changed; where it is 0, nothing is projected.

    Args:
      main_grads: a pytree, of the cross-entropy for instance.
      aux_grads: one like it, of the distillation; zeros for parameters that take no
        part.

    Returns:
      A pytree like ``main_grads``; leaf dtypes survive.

    Raises:
      ValueError: the trees differ.

    Numerics: in units in which the squares fit, for gradients of any size.

    Source: Dual-Head Knowledge Distillation, Yang et al. 2024, arXiv:2411.08937.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import align_gradients
    >>> align_gradients(jnp.float32([1, 0]), jnp.float32([-2, 3]))
    Array([1., 3.], dtype=float32)
    """
    main, aux = _unit(main_grads), _unit(aux_grads)
    scale, aux_scale = main[1], aux[1]
    dot = _dot(main[0], aux[0])
    square = _dot(main[0], main[0])
    # The part to remove, in units of the auxiliary gradient over the main one.
    share = jnp.where(
        square > 0, jnp.minimum(dot, 0) / jnp.where(square > 0, square, 1), 0
    )

    def merge(g, h):
        dtype = jnp.promote_types(g.dtype, jnp.float32)
        wide, other = g.astype(dtype), h.astype(dtype)
        part = (aux_scale * share).astype(dtype) * (wide / scale.astype(dtype))
        return (wide + (other - part)).astype(g.dtype)

    return jax.tree.map(merge, main_grads, aux_grads)


def gradient_alignment() -> optax.GradientTransformationExtraArgs:
    """Adds a second objective's gradients without their conflict with the first.

    Goes first in a chain: ``optax.chain(gradient_alignment(), optax.sgd(0.05))``, with
    ``update(grads, state, params, aux_grads=...)``. Needs no ``params``.

    Raises:
      TypeError: ``update`` is called without ``aux_grads``.

    Source: Dual-Head Knowledge Distillation, Yang et al. 2024, arXiv:2411.08937.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import gradient_alignment
    >>> transform, grads = gradient_alignment(), jnp.float32([1, 0])
    >>> state = transform.init(grads)
    >>> transform.update(grads, state, aux_grads=jnp.float32([-2, 3]))[0]
    Array([1., 3.], dtype=float32)
    """

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None, *, aux_grads, **extra):
        del params, extra
        return align_gradients(updates, aux_grads), state

    return optax.GradientTransformationExtraArgs(init, update)


def _unit(tree):
    """Leaves in float32 (float64) over the largest magnitude, and that magnitude."""
    wide = [
        a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in jax.tree.leaves(tree)
    ]
    scale = jnp.stack([jnp.max(jnp.abs(a), initial=0) for a in wide]).max()
    scale = jnp.where(scale > 0, scale, 1)
    return [a / scale for a in wide], scale


def _dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))
