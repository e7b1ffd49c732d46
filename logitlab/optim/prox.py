"""Proximal steps: what a penalty without a gradient does after the gradient step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range


class ProxState(NamedTuple):
    """State of a proximal step: the steps so far, for a learning rate schedule."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count


def fused_soft_threshold(
    learning_rate: ArrayLike | optax.Schedule,
    *,
    l1: ArrayLike = 1.0,
    l2: ArrayLike = 0.0,
    penalize_first: bool = True,
    increments: bool = True,
    axis: int = 0,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Proximal step of a penalty on the differences between neighbouring blocks.

    .. math:: w \leftarrow \arg\min_v \tfrac{1}{2} \lVert v - (w + u) \rVert^2 + t \,
        \mathrm{pen}(v)

    with the update u of the transformations before it and the learning rate t. For the
    ``increments`` psi of ``losses.presto_penalty`` every number moves towards 0 by
    :math:`t\,l_1` and is divided by :math:`1 + t\,l_2`. For the weights
    :math:`\beta_k = \sum_{j \le k} \psi_j` themselves (``increments=False``) the same
    penalty is a fused lasso, solved exactly by ``tv_prox``. Numbers that the penalty
    removes become exactly 0.

    Goes last, after the learning rate: ``optax.chain(optax.sgd(0.1),
    fused_soft_threshold(0.1, l1=1e-3))`` is proximal gradient descent. Behind Adam the
    step is not that of Adam's metric, only the one that is usual there [inferred].
    Needs ``params``; dtypes of the updates survive, 16-bit leaves step in float32. With
    ``increments=False`` the equal blocks of a float32 parameter may differ in the last
    digit once the update is added.

    Args:
      learning_rate: t, the one of the optimiser before; a number, an array or a
        schedule of the step.
      l1: weight of the absolute values.
      l2: weight of half the squares; only for increments.
      penalize_first: the first block is penalised too, as in the code of PRESTO.
      increments: parameters are differences; False if they are the weights.
      axis: of the blocks (thresholds), in every leaf; not traced, so to be named among
        the ``static_args`` of ``optax.inject_hyperparams``.
      mask: pytree of bools, or a function of the params that returns one; leaves at
        False, such as intercepts, pass unchanged.

    Raises:
      ValueError: ``l1``, ``l2`` or a fixed ``learning_rate`` is negative, ``l2`` comes
        without increments (NaN where it is traced), a leaf has no such axis, or
        ``update`` gets no params.

    Source: PRESTO, Faletto and Bien, ICML 2023, github.com/gregfaletto/presto.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import fused_soft_threshold
    >>> transform = fused_soft_threshold(0.5, l1=1.0)
    >>> params, updates = jnp.float32([[3], [1]]), jnp.float32([[-1], [-0.75]])
    >>> updates, _ = transform.update(updates, transform.init(params), params)
    >>> print((params + updates).ravel())
    [1.5 0. ]
    """
    for name, value in (("l1", l1), ("l2", l2), ("learning_rate", learning_rate)):
        if not callable(value):
            check_range(name, value, lambda v: v >= 0, "a number from 0 on")
    if not increments:
        check_range("l2", l2, lambda v: v == 0, "0 with increments=False")

    def prox(x, t):
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(
                f"params has a leaf of shape {x.shape} without axis {axis}"
            )
        if not increments:
            out = tv_prox(x, t * l1, axis=axis, anchored=penalize_first)
            return jnp.where(l2 == 0, out, jnp.nan)  # a traced one could not be checked
        out = soft_threshold(x, t * l1) / (1 + t * l2)
        if penalize_first:
            return out
        first = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis % x.ndim) == 0
        return jnp.where(first, x, out)

    def init(params):
        del params
        return ProxState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "fused_soft_threshold needs params: update(grads, state, params)"
            )
        t = learning_rate(state.count) if callable(learning_rate) else learning_rate

        def step(u, w):
            dtype = jnp.promote_types(u.dtype, jnp.float32)
            w = w.astype(dtype)
            out = prox(w + u.astype(dtype), jnp.asarray(t, dtype))
            return (out - w).astype(u.dtype)

        count = optax.safe_increment(state.count)
        return jax.tree.map(step, updates, params), ProxState(count)

    transform = optax.GradientTransformation(init, update)
    return transform if mask is None else optax.masked(transform, mask)


def soft_threshold(x: ArrayLike, threshold: ArrayLike) -> jax.Array:
    r"""Soft thresholding: the proximal step of the L1 norm.

    .. math:: \mathrm{sign}(x) \, (|x| - t)_+

    Shapes: x [...], threshold [] -> [...]

    Args:
      x: any numbers.
      threshold: t, at least 0, a scalar or of the shape of ``x``.

    Returns:
      float32 (float64 for float64 ``x``).

    Raises:
      TypeError: ``x`` is not floating point.

    Source: Donoho 1995.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import soft_threshold
    >>> print(soft_threshold(jnp.float32([-3, 0.5, 2]), 1.0))
    [-2.  0.  1.]
    """
    x = numerics.promote_to_float32(x, "x")
    threshold = jnp.asarray(threshold, x.dtype)
    return x - jnp.clip(x, -threshold, threshold)


def tv_prox(
    x: ArrayLike, strength: ArrayLike, *, axis: int = -1, anchored: bool = False
) -> jax.Array:
    r"""Proximal step of the total variation (one-dimensional fused lasso), exact.

    .. math:: \arg\min_v \tfrac{1}{2} \sum_k (v_k - x_k)^2 + \lambda \sum_{k \ge 2}
        |v_k - v_{k-1}| \; [{} + \lambda |v_1|]

    By dynamic programming over the sequence, with no iteration to converge: n steps of
    2 n numbers each, for every sequence, so meant for n up to thousands. Neighbours
    that are fused come out as equal numbers, anchored ones that vanish as exact zeros.

    Shapes: x [..., N], strength [] -> [..., N]

    Args:
      x: sequences along ``axis``.
      strength: lambda, at least 0, a scalar.
      axis: along which neighbours are.
      anchored: penalise the first number too, as the difference to a 0 before it.

    Returns:
      float32 (float64 for float64 ``x``). No gradient passes.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: no such axis, no numbers on it, or ``strength`` is negative or not a
        scalar.

    Numerics: error below 1e-5 of the sum of magnitudes, in float32.

    Source: the algorithm is that of Johnson 2013, "A dynamic programming algorithm for
      the fused lasso and L0-segmentation".

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import tv_prox
    >>> print(tv_prox(jnp.float32([0, 4, 0, 0]), 1.0))
    [1.  2.  0.5 0.5]
    """
    z = numerics.prepare_logits(x, axis=axis, name="x")
    if jnp.ndim(strength) != 0:
        raise ValueError(f"strength has shape {jnp.shape(strength)}, expected ()")
    check_range("strength", strength, lambda s: s >= 0, "a number from 0 on")
    size = z.shape[-1]
    rows = jax.lax.stop_gradient(z).reshape(-1, size)
    # Twice the sum of magnitudes fuses everything: no more is needed, nor its rounding.
    lam = jax.lax.stop_gradient(jnp.asarray(strength, z.dtype))
    lam = jnp.minimum(lam, 2 * jnp.abs(rows).sum(-1, keepdims=True))
    # The derivative of the best cost of v_1 .. v_k, as a function of v_k, is increasing
    # and piecewise linear, with slope 1 at both ends. It is kept as points on it, in no
    # order; points that nothing needs lie on top of others.
    at = jnp.repeat(
        jnp.zeros_like(rows[:, :1]) if anchored else rows[:, :1], 2 * size + 2, 1
    )
    value = at - at
    if anchored:  # a jump from -lam to lam at 0
        value = jnp.concatenate([value[:, :1] - lam, value[:, 1:] + lam], 1)

    def forward(points, item):
        at, value = points
        k, x = item
        value = value + (at - x[:, None])
        low, high, best = (_crossing(at, value, level) for level in (-lam, lam, 0))
        at, value = jnp.clip(at, low, high), jnp.clip(value, -lam, lam)
        new = jnp.concatenate([low, high], 1), jnp.concatenate([-lam, lam], 1)
        at = jax.lax.dynamic_update_slice_in_dim(at, new[0], 2 * k + 2, 1)
        value = jax.lax.dynamic_update_slice_in_dim(value, new[1], 2 * k + 2, 1)
        return (at, value), (low[:, 0], high[:, 0], best[:, 0])

    def backward(v, bounds):
        v = jnp.clip(v, *bounds)
        return v, v

    items = jnp.arange(size), rows.T
    _, (low, high, best) = jax.lax.scan(forward, (at, value), items)
    last = best[-1]
    _, rest = jax.lax.scan(backward, last, (low[:-1], high[:-1]), reverse=True)
    out = jnp.concatenate([rest, last[None]]).T.reshape(z.shape)
    return jnp.moveaxis(out, -1, axis)


def _crossing(at, value, level):
    """Where the line through the points, of slope 1 beyond them, reaches the level."""
    below = value < level
    # Increasing, so the last point below has the largest place and the largest value.
    last = lambda a: jnp.max(jnp.where(below, a, -jnp.inf), -1, keepdims=True)  # noqa: E731
    next_ = lambda a: jnp.min(jnp.where(below, jnp.inf, a), -1, keepdims=True)  # noqa: E731
    x0, y0, x1, y1 = last(at), last(value), next_(at), next_(value)
    some, all_ = below.any(-1, keepdims=True), below.all(-1, keepdims=True)
    between = some & ~all_
    within = x0 + (level - y0) / jnp.where(between, y1 - y0, 1) * (x1 - x0)
    beyond = jnp.where(all_, x0 - y0, x1 - y1) + level
    return jnp.where(between, within, beyond)
