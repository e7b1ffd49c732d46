"""Linear head under a spherical loss: exact SGD at a cost independent of the classes.

A spherical loss sees of all scores only their sum, their sum of squares and the score
of the label. With W = V U + 1 omega^T, a step on all C rows of W is one on U (d, d), on
omega (d) and on the rows of V that belong to labels of the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "SphericalOutputState",
    "spherical_output_dense",
    "spherical_output_init",
    "spherical_output_refresh",
    "spherical_output_stats",
    "spherical_output_update",
    "spherical_stats_loss",
    "stabilize",
]

# What is kept up to date for thousands of steps cannot lose digits in each of them.
_dot = functools.partial(jnp.matmul, precision="highest")


class SphericalOutputState(NamedTuple):
    r"""A head :math:`W = V U + 1 \omega^\top` of C classes over d features.

    Attributes:
      v: V, [C, d]; the only one with a row per class.
      u: U, [d, d].
      u_inv: its inverse.
      omega: what all rows of W share, [d].
      q: :math:`W^\top W`, [d, d].
      w_bar: :math:`W^\top 1`, [d].
    """

    v: jax.Array
    u: jax.Array
    u_inv: jax.Array
    omega: jax.Array
    q: jax.Array
    w_bar: jax.Array


def spherical_output_init(w: ArrayLike) -> SphericalOutputState:
    """The head with kernel ``w``, one row per class.

    Shapes: w [C, D] -> [C, D], [D, D], [D, D], [D], [D, D], [D]

    Args:
      w: the transpose of a ``Dense`` kernel.

    Returns:
      Its state, float32 (float64 for float64 ``w``).

    Raises:
      TypeError: ``w`` is not floating point.
      ValueError: ``w`` has not two axes.

    Source: Vincent, de Brebisson and Bouthillier 2015, arXiv:1412.7091.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_init
    >>> spherical_output_init(jnp.float32([[1, 0], [1, 2], [0, 1]])).w_bar
    Array([2., 3.], dtype=float32)
    """
    w = numerics.promote_to_float32(w, "w")
    if w.ndim != 2:
        raise ValueError(f"w has shape {w.shape}, expected [C, d]")
    eye = jnp.eye(w.shape[1], dtype=w.dtype)
    return SphericalOutputState(
        w, eye, eye, jnp.zeros_like(w[0]), _dot(w.T, w), w.sum(0)
    )


def spherical_output_dense(state: SphericalOutputState) -> jax.Array:
    """The dense kernel ``w`` [C, d], at a cost linear in the number of classes.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_dense, spherical_output_init
    >>> w = jnp.float32([[1, 0], [1, 2], [0, 1]])
    >>> bool((spherical_output_dense(spherical_output_init(w)) == w).all())
    True
    """
    return _dot(state.v, state.u) + state.omega[None]


def spherical_output_stats(
    state: SphericalOutputState,
    hidden: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Sum, sum of squares and label score of the logits of a factored head.

    .. math:: o = w_k \cdot h, \quad q = \sum_c (w_c \cdot h)^2 = h^\top Q h, \quad
        s = \sum_c w_c \cdot h = \bar w \cdot h

    Shapes: hidden [M, d], targets [M] or [M, K], mask [M] -> targets' shape, [M], [M]

    Args:
      state: of ``spherical_output_init`` or the last update.
      hidden: features h.
      targets: ints k in ``[0, C)``.
      mask: bool, the examples that count; the others' targets may be any integer, and
        their numbers are 0.

    Returns:
      ``(o, q, s)`` in the state's dtype: scores of the targets, sums of squares and
      sums of all scores.

    Raises:
      TypeError: ``hidden`` is not floating point, ``targets`` not integer or ``mask``
        not bool.
      ValueError: wrong shapes, or a target of C or more; under ``jit``, where values
        are unknown, such a target has a score of NaN, as a negative one has.

    Numerics: relative error below 1e-5 of the largest products, in float32.

    Source: Vincent, de Brebisson and Bouthillier 2015, arXiv:1412.7091.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_init, spherical_output_stats
    >>> state = spherical_output_init(jnp.float32([[1, 0], [1, 2], [0, 1]]))
    >>> stats = spherical_output_stats(state, jnp.float32([[1, 1]]), jnp.array([1]))
    >>> [float(number[0]) for number in stats]
    [3.0, 11.0, 5.0]
    """
    h, k, _ = _batch(state, hidden, targets, mask)
    rows = _rows(state, k)
    scores = jnp.sum(rows * h.reshape(h.shape[0], *(1,) * (k.ndim - 1), -1), -1)
    return scores, jnp.sum(_dot(h, state.q) * h, -1), _dot(h, state.w_bar)


def spherical_output_update(
    state: SphericalOutputState,
    hidden: ArrayLike,
    targets: ArrayLike,
    grads: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
) -> tuple[SphericalOutputState, jax.Array]:
    r"""One exact SGD step of the whole head, in O(m d^2 + d^3) for m examples.

    .. math:: W \leftarrow W A - 1 r^\top - E S, \quad A = (1 - \eta \lambda) I - 2 \eta
        \sum_i g^q_i h_i h_i^\top, \quad r = \eta \sum_i g^s_i h_i, \quad
        S_i = \eta g^o_i h_i

    with row i of E the one-hot vector of target i. That is the step of the dense head
    on the summed loss plus :math:`\lambda/2 \|W\|^2`. Here A goes into U, r into omega,
    and S into the rows of V that have a target; equal targets add up.

    V is updated in place where its buffer may be: under a ``jit`` that donates the
    state, or as the carry of a ``scan``. Otherwise a copy costs O(C d). Call
    ``stabilize`` every 100 steps and, in float32, ``spherical_output_refresh`` every
    few thousand.

    Shapes: hidden [M, d], targets [M] or [M, K], grads (targets' shape, [M], [M]),
      mask [M] -> state, [M, d]

    Args:
      state: of ``spherical_output_init`` or the last update.
      hidden: features h.
      targets: ints in ``[0, C)``.
      grads: derivatives of the loss, summed over the batch, by the three results of
        ``spherical_output_stats``.
      learning_rate: :math:`\eta`, may be traced.
      weight_decay: :math:`\lambda`, the same.
      mask: bool, the examples that count; nothing of the others is looked at.

    Returns:
      The state after the step, and the gradient of the summed loss by ``hidden`` before
      it, in its dtype; 0 where ``mask`` is False.

    Raises:
      TypeError: a floating point array is none, ``targets`` is not integer or ``mask``
        not bool.
      ValueError: wrong shapes, or a target of C or more; under ``jit``, where values
        are unknown, such a target turns the head into NaN, as a negative one does that
        has a gradient other than 0.

    Numerics: 50 steps equal those of the dense head to 1e-12 in float64 and 1e-5 in
      float32. A has to be invertible: a step so long that ``2 * learning_rate * g_q *
      |h|^2`` is 1 for some direction, and throws that direction away, ends in ``inf``.

    Source: Vincent, de Brebisson and Bouthillier 2015, arXiv:1412.7091.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_dense
    >>> from logitlab.heads import spherical_output_init, spherical_output_update
    >>> state = spherical_output_init(jnp.float32([[1, 0], [1, 2], [0, 1]]))
    >>> grads = jnp.float32([-2]), jnp.float32([1]), jnp.float32([0])  # of the MSE
    >>> h, k = jnp.float32([[1, 1]]), jnp.array([1])
    >>> state, _ = spherical_output_update(state, h, k, grads, learning_rate=0.125)
    >>> print(spherical_output_dense(state).round(4).tolist())
    [[0.75, -0.25], [0.5, 1.5], [-0.25, 0.75]]
    """
    dtype = state.v.dtype
    h, k, keep = _batch(state, hidden, targets, mask)
    g_o, g_q, g_s = _grads(grads, k.shape, keep, dtype)
    idle = (k < 0) & (g_o == 0)  # no target, and nothing is asked of it
    bad = jnp.where(jnp.any((k < 0) & ~idle), jnp.nan, 0).astype(dtype)
    eta = jnp.asarray(learning_rate, dtype)
    shrink = 1 - eta * jnp.asarray(weight_decay, dtype)
    count, width = state.v.shape

    # One row per pair of an example and a target.
    per = 1 if k.ndim == 1 else k.shape[1]
    k = k.reshape(-1)
    of_v = _take(state.v, k)
    rows = _dot(of_v, state.u) + state.omega[None]
    rows = jnp.where(idle.reshape(-1, 1), 0, rows)
    push = jnp.repeat(h, per, 0) * g_o.reshape(-1, 1)
    grad_hidden = (
        2 * g_q[:, None] * _dot(h, state.q)
        + g_s[:, None] * state.w_bar[None]
        + (g_o.reshape(-1, 1) * rows).reshape(-1, per, width).sum(1)
    )

    a = shrink * jnp.eye(width, dtype=dtype) - 2 * eta * _dot((g_q[:, None] * h).T, h)
    a_inv = _inverse(a, h, 2 * eta * g_q, shrink)
    r = eta * _dot(g_s, h) + bad
    s = eta * push
    b = _dot(rows, a) - r[None]  # the rows of the targets, but for their own part
    same = (k[:, None] == k[None]).astype(dtype)
    w_bar = _dot(state.w_bar, a)
    cross = w_bar[:, None] * r[None] + _dot(b.T, s)
    q = _dot(_dot(a, state.q), a) - cross - cross.T
    q = q + count * r[:, None] * r[None] + _dot(s.T, _dot(same, s))
    u_inv = _dot(a_inv, state.u_inv)
    # Rows that were read are written: a scatter that adds does not wait for the read
    # above, so that XLA would copy all of V. Equal targets write the same row.
    of_v = of_v - _dot(same, _dot(s, u_inv))
    v = state.v.at[k].set(of_v, mode="drop", wrap_negative_indices=False)
    state = SphericalOutputState(
        v=v,
        u=_dot(state.u, a),
        u_inv=u_inv,
        omega=_dot(state.omega, a) - r,
        q=(q + q.T) / 2,  # what is symmetric stays so
        w_bar=w_bar - count * r - s.sum(0),
    )
    return state, grad_hidden.astype(jnp.asarray(hidden).dtype)


def stabilize(
    state: SphericalOutputState, *, low: float = 0.5, high: float = 2.0
) -> SphericalOutputState:
    r"""The same head with a well-conditioned U; to be called every 100 steps.

    With :math:`U = \sum_j \sigma_j p_j r_j^\top`, a :math:`\sigma_j` outside of
    ``[low, high]`` is moved to V, where it costs O(C d), and becomes 1. If that is
    more than a third of them, everything goes to V, in O(C d^2). The inverse is made
    anew in either case.

    Args:
      state: of ``spherical_output_update``.
      low: the smallest singular value that may stay, in (0, 1].
      high: the largest, from 1 on.

    Returns:
      The state, of the same W, ``q`` and ``w_bar``.

    Raises:
      ValueError: ``low`` or ``high`` is on the wrong side of 1.

    Source: section 3.6 of Vincent, de Brebisson and Bouthillier 2015, arXiv:1412.7091.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_init, stabilize
    >>> state = spherical_output_init(jnp.ones((3, 2)))
    >>> state = state._replace(u=8 * state.u, u_inv=state.u_inv / 8)
    >>> stabilize(state).v[0]
    Array([8., 8.], dtype=float32)
    """
    check_range("low", low, lambda v: (v > 0) & (v <= 1), "it in (0, 1]")
    check_range("high", high, lambda v: v >= 1, "at least 1")
    dtype, width = state.u.dtype, state.u.shape[0]
    left, sigma, right = jnp.linalg.svd(state.u)
    outside = (sigma < low) | (sigma > high)
    many = jnp.sum(outside) > width // 3
    kept = jnp.where(outside, 1, sigma)
    u = _dot(left * kept[None], right)
    u_inv = _dot(right.T / kept[None], left.T)
    eye = jnp.eye(width, dtype=dtype)

    # Loops of no or a few turns, as a conditional would copy V to return it.
    def exchange(carry):
        v, j = carry
        p = left[:, j]
        factor = jnp.where(outside[j], sigma[j] - 1, 0)
        return v + factor * _dot(v, p)[:, None] * p[None], _next(outside, j + 1)

    def refactor(carry):
        v, _ = carry
        return _dot(v, state.u) + state.omega[None], False

    start = jnp.where(many, width, _next(outside, 0))
    v, _ = jax.lax.while_loop(lambda c: c[1] < width, exchange, (state.v, start))
    v, _ = jax.lax.while_loop(lambda c: c[1], refactor, (v, many))
    return state._replace(
        v=v,
        u=jnp.where(many, eye, u),
        u_inv=jnp.where(many, eye, u_inv),
        omega=jnp.where(many, 0, state.omega),
    )


def spherical_output_refresh(state: SphericalOutputState) -> SphericalOutputState:
    """The same head with ``q``, ``w_bar`` and ``u_inv`` computed anew, in O(C d^2).

    Rounding adds up in what updates only carry along: in float32 do this every few
    thousand steps, or after changing ``v``, ``u`` or ``omega`` by hand.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import spherical_output_init, spherical_output_refresh
    >>> state = spherical_output_init(jnp.ones((3, 2)))
    >>> spherical_output_refresh(state._replace(omega=jnp.ones(2))).w_bar
    Array([6., 6.], dtype=float32)
    """
    w = spherical_output_dense(state)
    return state._replace(u_inv=jnp.linalg.inv(state.u), q=_dot(w.T, w), w_bar=w.sum(0))


def spherical_stats_loss(
    target_scores: ArrayLike,
    sum_sq: ArrayLike,
    total: ArrayLike,
    *,
    num_classes: int,
    loss: str = "spherical_z_loss",
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    eps: ArrayLike | None = None,
) -> jax.Array:
    r"""A spherical loss of ``spherical_output_stats``; its gradient is for the update.

    .. math:: \mu = s / C, \quad \sigma^2 = q / C - \mu^2, \quad
        \ell = \tfrac{1}{a} \log(1 + e^{a (b - (o - \mu) / \sigma)})

    is the Z-loss; the others are functions of the same three numbers.

    Shapes: target_scores [...], sum_sq [...], total [...] -> [...]

    Args:
      target_scores: o, of the label.
      sum_sq: q, the sum of all squared scores.
      total: s, the sum of all scores.
      num_classes: C.
      loss: ``spherical_z_loss``, ``spherical_softmax_loss``, ``taylor_softmax_loss`` or
        ``spherical_mse_loss``, as in ``logitlab.losses``.
      a: of ``spherical_z_loss``, by default 1.
      b: of ``spherical_z_loss``, by default 0.
      eps: of ``spherical_softmax_loss``, by default 1e-6.

    Returns:
      One loss per example, float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point, or a number of another loss.
      ValueError: an unknown loss, or shapes that differ.

    Numerics: relative error below 1e-5 where the deviation is at least the mean; the
      variance is a difference, and 0 where it is all rounding. ``logitlab.losses``,
      with all scores at hand, does better.

    Source: de Brebisson and Vincent 2016, arXiv:1604.08859 and 1511.05042.

    >>> from logitlab.heads import spherical_stats_loss
    >>> spherical_stats_loss(2.0, 5.0, 3.0, num_classes=3).round(5)
    Array(0.25761, dtype=float32)
    """
    if loss not in _LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {tuple(_LOSSES)}")
    check_range("num_classes", num_classes, lambda n: n >= 1, "at least 1")
    o = numerics.promote_to_float32(target_scores, "target_scores")
    q, s = (
        numerics.promote_to_float32(sum_sq, "sum_sq"),
        numerics.promote_to_float32(total, "total"),
    )
    if not o.shape == q.shape == s.shape:
        raise ValueError(
            f"target_scores, sum_sq, total have shapes {o.shape}, {q.shape}, {s.shape},"
            " expected equal ones"
        )
    dtype = jnp.result_type(o, q, s)
    function, takes = _LOSSES[loss]
    numbers = {}
    for name, value in (("a", a), ("b", b), ("eps", eps)):
        if value is None:
            continue
        if name not in takes:
            raise TypeError(f"{name} is {value}, expected none: {loss} has no {name}")
        numbers[name] = hyper(name, value, dtype)
    return function(o, q, s, jnp.asarray(num_classes, dtype), **numbers)


def _spherical_z_loss(o, q, s, count, *, a=1.0, b=0.0):
    mean = s / count
    variance = q / count - mean * mean
    spread = variance > 8 * jnp.finfo(q).eps * q / count
    zeta = (o - mean) / jnp.sqrt(jnp.where(spread, variance, 1))
    return jax.nn.softplus(a * (b - jnp.where(spread, zeta, 0))) / a


def _spherical_softmax(o, q, s, count, *, eps=1e-6):
    del s
    return jnp.log(q + count * eps) - jnp.log(o * o + eps)


def _taylor_softmax(o, q, s, count):
    return jnp.log(count + s + q / 2) - jnp.log((jnp.square(o + 1) + 1) / 2)


def _mse(o, q, s, count):
    del s, count
    return q - 2 * o + 1


# Each with the numbers that it takes.
_LOSSES: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "spherical_z_loss": (_spherical_z_loss, ("a", "b")),
    "spherical_softmax_loss": (_spherical_softmax, ("eps",)),
    "taylor_softmax_loss": (_taylor_softmax, ()),
    "spherical_mse_loss": (_mse, ()),
}


def _batch(state, hidden, targets, mask):
    """Features and targets; zeros for examples that are masked out."""
    count, width = state.v.shape
    h = numerics.promote_to_float32(hidden, "hidden").astype(state.v.dtype)
    if h.ndim != 2 or h.shape[1] != width:
        raise ValueError(f"hidden has shape {h.shape}, expected [M, {width}]")
    k = numerics.wide_labels(targets, "targets")
    rows = h.shape[0]
    if k.ndim not in (1, 2) or k.shape[0] != rows:
        raise ValueError(
            f"targets has shape {k.shape}, expected {(rows,)} or ({rows}, K)"
        )
    keep = numerics.check_mask(mask, (rows,))
    if mask is not None:
        h = jnp.where(keep[:, None], h, 0)
        k = jnp.where(keep.reshape(-1, *(1,) * (k.ndim - 1)), k, 0)
    beyond = k >= count
    if numerics.is_concrete(beyond) and beyond.any():
        raise ValueError(f"targets outside [0, {count}): {k[beyond][:5]}")
    known = (k >= 0) & ~beyond
    return h, jnp.where(known, k, -1), keep


def _rows(state, k):
    """Rows of W, NaN where the target is no class."""
    rows = _take(state.v, k)
    return _dot(rows, state.u) + state.omega.reshape((1,) * k.ndim + (-1,))


def _take(v, k):
    return v.at[k].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _grads(grads, shape, keep, dtype):
    if len(grads) != 3:
        raise ValueError(
            f"grads has {len(grads)} arrays, expected those of the scores, the squares "
            "and the sums"
        )
    out = []
    for i, (grad, want) in enumerate(
        zip(grads, (shape, shape[:1], shape[:1]), strict=True)
    ):
        grad = numerics.promote_to_float32(grad, f"grads[{i}]").astype(dtype)
        if grad.shape != want:
            raise ValueError(f"grads[{i}] has shape {grad.shape}, expected {want}")
        out.append(jnp.where(keep.reshape(-1, *(1,) * (grad.ndim - 1)), grad, 0))
    return out


def _inverse(a, h, scale, shrink):
    """Inverse of ``a = shrink * I - h.T @ diag(scale) @ h``, by the smaller system."""
    rows, width = h.shape
    if rows >= width:
        return jnp.linalg.inv(a)
    scaled = scale[:, None] * h
    small = shrink * jnp.eye(rows, dtype=a.dtype) - _dot(scaled, h.T)
    part = _dot(h.T, jnp.linalg.solve(small, scaled))
    return (jnp.eye(width, dtype=a.dtype) + part) / shrink


def _next(outside, start):
    """The first index from ``start`` on that is outside, else the length."""
    places = jnp.arange(outside.size)
    return jnp.min(jnp.where(outside & (places >= start), places, outside.size))
