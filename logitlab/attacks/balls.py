"""Balls around inputs, cut by the box that inputs live in: projections and steps."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_range, check_same_shape

__all__ = ["project_l1_box", "project_to_ball"]

Bounds = tuple[ArrayLike, ArrayLike] | None
Norm = str | float


def project_to_ball(
    points: ArrayLike,
    inputs: ArrayLike,
    *,
    eps: ArrayLike,
    norm: Norm = "inf",
    bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
    r"""Points moved into the ball around the inputs, and into the box.

    .. math:: \|x' - x\| \le \epsilon, \qquad l \le x' \le u

    Without bounds, and with them for the norms 1 and infinity, this is the nearest such
    point. For the norm 2 the ball comes first and the box second, as in all attacks of
    this norm: both hold, but a nearer point may exist.

    Args:
      points: [B, ...].
      inputs: [B, ...], the centers.
      eps: the radius, above 0: a number or [B].
      norm: "inf", 2 or 1.
      bounds: the lowest and the highest input, numbers or arrays that broadcast to the
        inputs, or None.

    Returns:
      Points, float32 (float64 for float64).

    Raises:
      TypeError: ``points`` or ``inputs`` is not floating point.
      ValueError: the shapes differ, ``eps`` is not above 0, the norm is unknown, or
        bounds are in the wrong order.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import project_to_ball
    >>> x = jnp.float32([[0.5, 0.5]])
    >>> project_to_ball(x + 3, x, eps=0.1)
    Array([[0.6, 0.6]], dtype=float32)
    """
    x = numerics.promote_to_float32(inputs, "inputs")
    points = numerics.promote_to_float32(points, "points")
    check_same_shape("points", points, "inputs", x.shape)
    eps, box = check_radius(eps, x), check_bounds(bounds, x)
    return project(points.astype(x.dtype), x, eps, check_norm(norm), box)


def project_l1_box(
    inputs: ArrayLike,
    delta: ArrayLike,
    *,
    eps: ArrayLike,
    bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
    r"""The nearest perturbation in the l1 ball that keeps the inputs in their box.

    .. math:: \min_{d} \|d - \delta\|_2 \quad \text{with} \quad \|d\|_1 \le \epsilon,
        \; l \le x + d \le u

    Exact: the perturbation is shrunk towards 0 by one amount in all coordinates and cut
    by the room that each has; the amount is the smallest float at which the norm is no
    more than eps.

    Shapes: inputs [B, N], delta [B, N] -> [B, N]

    Args:
      inputs: [B, ...], inside the bounds.
      delta: [B, ...], the perturbation.
      eps: the radius, above 0: a number or [B].
      bounds: the lowest and the highest input, numbers or arrays that broadcast to the
        inputs, or None.

    Returns:
      Perturbations of the shape of ``delta``.

    Raises:
      TypeError: ``inputs`` or ``delta`` is not floating point.
      ValueError: the shapes differ, ``eps`` is not above 0, or bounds are in the wrong
        order.

    Source: l1-APGD, Croce and Hein 2021, arXiv:2103.01208.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import project_l1_box
    >>> x, delta = jnp.float32([[0.5, 0.9]]), jnp.float32([[0.4, 0.4]])
    >>> print(*(f"{d:.2f}" for d in project_l1_box(x, delta, eps=0.4)[0]))
    0.30 0.10
    """
    x = numerics.promote_to_float32(inputs, "inputs")
    d = numerics.promote_to_float32(delta, "delta")
    check_same_shape("delta", d, "inputs", x.shape)
    eps, box = check_radius(eps, x), check_bounds(bounds, x)
    return _l1_box(x, d.astype(x.dtype), eps, box)


# --- what attacks share; shapes [B, ...], radii [B, 1, ...], norms float


def check_norm(norm: Norm) -> float:
    """The norm as a float: inf, 2 or 1.

    Raises:
      ValueError: it is another one.

    >>> from logitlab.attacks.balls import check_norm
    >>> check_norm("inf")
    inf
    """
    try:
        found = float(norm)
    except (TypeError, ValueError):
        found = np.nan
    if found not in (np.inf, 2.0, 1.0):
        raise ValueError(f"norm is {norm!r}, expected 'inf', 2 or 1")
    return found


def check_radius(eps: ArrayLike, x: jax.Array, name: str = "eps") -> jax.Array:
    """A radius or step size for each example, with axes for the inputs' features.

    Raises:
      ValueError: it is not above 0, or neither a number nor [B].
    """
    check_range(name, eps, lambda e: e > 0, "above 0")
    e = jnp.asarray(eps, x.dtype)
    if e.ndim and e.shape != x.shape[:1]:
        raise ValueError(f"{name} has shape {e.shape}, expected () or {x.shape[:1]}")
    return as_column(jnp.broadcast_to(e, x.shape[:1]), x)


def check_bounds(bounds: Bounds, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest inputs; infinite without bounds.

    Raises:
      ValueError: they are no pair, do not broadcast, or are in the wrong order.
    """
    if bounds is None:
        bounds = -jnp.inf, jnp.inf
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"bounds is {bounds!r}, expected a pair (low, high) or None")
    try:
        low, high = (jnp.broadcast_to(jnp.asarray(b, x.dtype), x.shape) for b in bounds)
    except ValueError:
        shapes = " and ".join(str(np.shape(b)) for b in bounds)
        raise ValueError(
            f"bounds has shapes {shapes}, expected numbers or arrays that broadcast to "
            f"the inputs, {x.shape}"
        ) from None
    wrong = low >= high
    if numerics.is_concrete(wrong) and wrong.any():
        raise ValueError(f"bounds is {bounds!r}, expected low < high")
    return low, high


def as_column(values: jax.Array, x: jax.Array) -> jax.Array:
    """[B] with one axis of length 1 for each axis of features."""
    return values.reshape(x.shape[:1] + (1,) * (x.ndim - 1))


def as_rows(a: jax.Array) -> jax.Array:
    """[B, ...] with one axis of features."""
    return a.reshape(a.shape[0], math.prod(a.shape[1:]))


def row_sums(a: jax.Array) -> jax.Array:
    """[B, N] -> [B, 1], as a product: on CPUs several times as fast as a sum."""
    return jnp.dot(a, jnp.ones((a.shape[-1], 1), a.dtype), precision="highest")


def lengths(d: jax.Array, norm: float) -> jax.Array:
    """The norm of each example's perturbation, [B, 1, ...]."""
    if norm == 2:
        return as_column(jax.vmap(tree_norm)(d), d)
    size = jnp.abs(as_rows(d))
    return as_column(jnp.max(size, -1) if norm == np.inf else row_sums(size), d)


def project(
    points: jax.Array,
    x: jax.Array,
    eps: jax.Array,
    norm: float,
    box: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """``project_to_ball`` of checked arguments."""
    if norm == 1:
        return jnp.clip(x + _l1_box(x, points - x, eps, box), *box)
    if norm == 2:
        d = points - x
        length = lengths(d, 2.0)
        points = x + d * jnp.where(length > eps, eps / length, 1)
    else:
        points = jnp.clip(points, x - eps, x + eps)
    return jnp.clip(points, *box)


def steepest(grad: jax.Array, norm: float, share: jax.Array | float) -> jax.Array:
    """The direction of length 1 in which a loss rises fastest; 0 for a zero gradient.

    For the norm 1, in which that is one coordinate, a share of the coordinates (a
    number or [B]) with the largest slopes, by equal amounts.
    """
    if norm == np.inf:
        return jnp.sign(grad)
    if norm == 2:
        length = lengths(grad, 2.0)
        return grad / jnp.where(length > 0, length, 1)
    size = jnp.abs(as_rows(grad))
    n = size.shape[-1]
    share = jnp.broadcast_to(jnp.asarray(share, grad.dtype), size.shape[:1])
    at = jnp.clip((1 - share) * n, 0, n - 1).astype(jnp.int32)[:, None]
    least = _first_float(  # that entry of the sorted ones
        lambda v: row_sums((size <= v).astype(size.dtype)) > at,
        jnp.zeros(at.shape, grad.dtype),
    )
    least = as_column(least, grad)
    signs = jnp.where(jnp.abs(grad) >= least, jnp.sign(grad), 0)
    return signs / jnp.maximum(lengths(signs, 1.0), 1)


def random_point(
    key: jax.Array,
    x: jax.Array,
    eps: jax.Array,
    norm: float,
    box: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """Uniform in the ball, then moved into the box."""
    if norm == np.inf:
        d = jax.random.uniform(key, x.shape, x.dtype, -1, 1)
    else:
        key, radial = jax.random.split(key)
        draw = jax.random.normal if norm == 2 else jax.random.laplace
        d = draw(key, x.shape, x.dtype)
        inverse = 1 / max(math.prod(x.shape[1:]), 1)
        radius = jax.random.uniform(radial, x.shape[:1], x.dtype) ** inverse
        d = d / lengths(d, norm) * as_column(radius, x)
    return project(x + eps * d, x, eps, norm, box)


def _l1_box(x, d, eps, box):
    """``project_l1_box`` of checked arguments."""
    room = jnp.where(d > 0, box[1] - x, x - box[0])
    size, room, sign, eps = (
        as_rows(a) for a in (jnp.abs(d), jnp.maximum(room, 0), jnp.sign(d), eps)
    )
    t = _first_float(lambda t: row_sums(jnp.clip(size - t, 0, room)) <= eps, eps)
    return (sign * jnp.clip(size - t, 0, room)).reshape(x.shape)


def _first_float(holds, like):
    """The smallest float from 0 on at which a condition holds, as it does from there.

    Floats are in the order of their bits, which are halved: as exact as sorting where a
    condition changes, and on CPUs several times as fast.
    """
    bits = 8 * like.dtype.itemsize
    whole = jnp.dtype(f"int{bits}")
    low = jnp.full(like.shape, -1, whole)
    high = jax.lax.bitcast_convert_type(jnp.full_like(like, jnp.inf), whole)

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) // 2
        yes = holds(jax.lax.bitcast_convert_type(middle, like.dtype))
        return jnp.where(yes, low, middle), jnp.where(yes, middle, high)

    high = jax.lax.fori_loop(0, bits - 1, halve, (low, high))[1]
    return jax.lax.bitcast_convert_type(high, like.dtype)
