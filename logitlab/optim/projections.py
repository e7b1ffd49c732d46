"""Updates of which only a part is kept, by where they point."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_range, check_same_shape


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
        lambda a: jnp.asarray(a).astype(
            jnp.promote_types(jnp.result_type(a), jnp.float32)
        ),
        tree,
    )


def _vdot(a, b):
    """Inner product over all arrays, in full precision and without a reshape."""
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), a, b)))


def gradient_projection_merge(
    old: Any, natural: Any, adversarial: Any, *, beta: ArrayLike = 0.5
) -> Any:
    r"""Parameters after an epoch of natural and one of adversarial training (RAMP).

    Use it when adversarial training costs accuracy: of the natural update it takes what
    points where the adversarial one does. Train an epoch of each kind from the same
    parameters, and go on from the result.

    .. math:: \theta = \theta_0 + \beta \max(\cos(g_n, g_a), 0) \, g_n +
        (1 - \beta) \, g_a, \quad g_n = \theta_n - \theta_0, \quad
        g_a = \theta_a - \theta_0

    leaf by leaf, the cosine over all entries of a leaf; where one did not change it is
    0. The cosine scales the natural update, which is not projected onto the other.

    Args:
      old: pytree of parameters before both epochs.
      natural: the same after an epoch on clean examples.
      adversarial: the same after an epoch on attacked ones.
      beta: in [0, 1]; 0 is adversarial training at full step. May be traced.

    Returns:
      A pytree like ``old``, in its dtypes; 16-bit leaves are merged in float32.

    Raises:
      ValueError: the trees differ in structure or shapes, or ``beta`` is outside
        [0, 1].

    Source: RAMP, Jiang and Singh 2024, arXiv:2402.06827.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import gradient_projection_merge
    >>> old, natural = jnp.float32([0, 0]), jnp.float32([2, 0])
    >>> gradient_projection_merge(old, natural, jnp.float32([0, 4]))
    Array([0., 2.], dtype=float32)
    >>> gradient_projection_merge(old, natural, jnp.float32([4, 0]))
    Array([3., 0.], dtype=float32)
    """
    check_range("beta", beta, lambda b: (b >= 0) & (b <= 1), "a number in [0, 1]")

    def merge(path, start, *ends):
        for name, end in zip(("natural", "adversarial"), ends, strict=True):
            leaf = f"{name}{jax.tree_util.keystr(path)}"
            check_same_shape(leaf, end, "old", jnp.shape(start))
        start = jnp.asarray(start)
        w, n, a = map(_widen, (start, *ends))
        n, a = n - w, a - w
        sizes = tree_norm(n), tree_norm(a)
        u, v = (g / jnp.where(s > 0, s, 1) for g, s in zip((n, a), sizes, strict=True))
        share = jnp.asarray(beta, w.dtype)
        kept = share * jnp.maximum(_vdot(u, v), 0) * n
        return (w + kept + (1 - share) * a).astype(start.dtype)

    return jax.tree_util.tree_map_with_path(merge, old, natural, adversarial)
