"""Transformations that keep only part of a gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_range


def ortho_grad(
    *,
    renormalize: bool = True,
    per_leaf: bool = True,
    eps: float = 1e-30,
    min_ratio: float = 0.0,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Removes from each gradient its component along the weights (perpGrad).

    Use it when training accuracy is perfect and the network does not generalize.

    .. math:: g_\perp = g - \frac{\langle w, g \rangle}{\langle w, w \rangle + \epsilon}
        w, \qquad g \leftarrow g_\perp \frac{\lVert g \rVert}{\lVert g_\perp \rVert +
        \epsilon}

    The paper's perpGrad. Goes before the optimiser, whose moments then see projected
    gradients: ``optax.chain(ortho_grad(), optax.adam(1e-3))``. Needs ``params``; dtypes
    of the updates survive, 16-bit leaves are projected in float32. Weights of 1e25 and
    gradients of 1e-25 are fine in float32, although their squares are not.

    Weights of zeros pass the gradient unchanged. A gradient that is parallel to its
    weights leaves rounding noise, which ``renormalize`` blows up to the gradient's
    norm, as the original does; ``min_ratio`` prevents it. A scalar is parallel to any
    other and comes out as 0: leave biases and scalars out with ``mask``.

    Args:
      renormalize: give the projected gradient the norm of the original one. The
        official code does, the paper's formula does not.
      per_leaf: project each array by itself, as the official code does, or all of them
        as the one vector that the paper writes.
      eps: added to the denominators.
      min_ratio: no renormalisation where the projection keeps no more than this share
        of the gradient's norm.
      mask: pytree of bools, or a function of the params that returns one; leaves at
        False pass unchanged.

    Raises:
      ValueError: ``eps`` or ``min_ratio`` is negative, or ``update`` gets no params.

    Source: Prieto et al. 2025, arXiv:2501.04697.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import ortho_grad
    >>> transform = ortho_grad(renormalize=False)
    >>> params, grads = jnp.float32([1, 0]), jnp.float32([5, 2])
    >>> transform.update(grads, transform.init(params), params)[0]
    Array([0., 2.], dtype=float32)
    """
    check_range("eps", eps, lambda v: v >= 0, "a number from 0 on")
    check_range("min_ratio", min_ratio, lambda v: v >= 0, "a number from 0 on")

    def project(grads, params):
        g, w = _widen(grads), _widen(params)
        norm = tree_norm(w)
        safe = jnp.where(norm > 0, norm, 1)
        u = jax.tree.map(lambda w: w / safe, w)
        # <w, w> / (<w, w> + eps) without the squares, which over- and underflow.
        kept = jnp.where(norm > 0, 1 / (1 + (eps**0.5 / safe) ** 2), 0)
        along = kept * _vdot(u, g)
        t = jax.tree.map(lambda g, u: g - along * u, g, u)
        if renormalize:
            before, after = tree_norm(g), tree_norm(t)
            scale = jnp.where(after <= min_ratio * before, 1, before / (after + eps))
            t = jax.tree.map(lambda t: scale * t, t)
        return jax.tree.map(lambda t, g: t.astype(g.dtype), t, grads)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("ortho_grad needs params: update(grads, state, params)")
        if per_leaf:
            return jax.tree.map(project, updates, params), state
        return project(updates, params), state

    transform = optax.GradientTransformation(optax.init_empty_state, update)
    return transform if mask is None else optax.masked(transform, mask)


def _widen(tree):
    return jax.tree.map(
        lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float32)), tree
    )


def _vdot(a, b):
    """Inner product over all arrays, in full precision and without a reshape."""
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), a, b)))
