"""Models of what happens next, whose errors count by what they do to a value."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.density._features import kept_rows, rows_like
from logitlab.numerics._quantiles import kept_quantile
from logitlab.numerics.arguments import check_range, check_same_shape, weighted

__all__ = ["taylor_vaml_loss", "vagram_loss", "value_gradient"]


def vagram_loss(
    pred_next: ArrayLike,
    target_next: ArrayLike,
    value_grad: ArrayLike,
    pred_reward: ArrayLike | None = None,
    target_reward: ArrayLike | None = None,
    *,
    clip_quantile: ArrayLike = 0.95,
    clip_floor: ArrayLike = 0.0,
    mse_weight: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared errors of the next state, weighted by the value's slopes, per example.

    Use it when a model of the dynamics is too small for all of the state, and serves to
    improve one policy: it learns the features that the value depends on.

    .. math:: \frac{1}{D} \sum_d (g_d (\hat s_d - s_d))^2 + (\hat r - r)^2
        + \frac{\varepsilon}{D} \sum_d (\hat s_d - s_d)^2, \quad
        g = \nabla V(s) \min\!\left(1, \frac{q}{\|\nabla V(s)\|}\right)

    with q a quantile of the norms in the batch, so that a few steep states do not
    outweigh the others. Features without a slope are not learned: set ``mse_weight``
    where the model serves other policies too. With several value functions take the
    mean of their losses, by ``jax.vmap`` over ``value_grad``.

    Shapes: pred_next [..., D], target_next [..., D], value_grad [..., D],
      pred_reward [...], target_reward [...], mask [...] -> [...]

    Args:
      pred_next: the model's next states.
      target_next: the true ones.
      value_grad: of ``value_gradient`` at ``target_next``; carries no gradient.
      pred_reward: the model's rewards, if it has any.
      target_reward: the true ones, given if ``pred_reward`` is.
      clip_quantile: of the norms of ``value_grad``, in [0, 1]; 1 clips nothing.
      clip_floor: norms up to it are not clipped. The authors' code has 1e5, and so
        clips almost nothing.
      mse_weight: epsilon, at least 0.
      mask: bool, the examples that take part; others cost 0 and are in no quantile.

    Returns:
      In squared values, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, one of the rewards is missing, or a hyper-parameter
        is out of range.

    Numerics: relative error below 1e-5 for a difference of states that is exact.

    Source: Value Gradient weighted Model-Based Reinforcement Learning, Voelcker et al.
      2022, arXiv:2204.01464.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import vagram_loss
    >>> pred, target = jnp.float32([[1, 1]]), jnp.zeros((1, 2))
    >>> vagram_loss(pred, target, jnp.float32([[2, 0]]))
    Array([2.], dtype=float32)
    """
    error, g, rest, keep = _parts(
        (pred_next, target_next, value_grad),
        (pred_reward, target_reward),
        (clip_quantile, clip_floor),
        mse_weight,
        mask,
    )
    return jnp.where(keep, jnp.square(g * error).mean(-1) + rest, 0)


def taylor_vaml_loss(
    pred_next: ArrayLike,
    target_next: ArrayLike,
    value_grad: ArrayLike,
    pred_reward: ArrayLike | None = None,
    target_reward: ArrayLike | None = None,
    *,
    clip_quantile: ArrayLike = 0.95,
    clip_floor: ArrayLike = 0.0,
    mse_weight: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared error of the next state's value to first order, one per example.

    Use it when ``vagram_loss`` is to be compared with the error that it bounds: here
    errors of features may cancel, so that a model may be wrong in all of them.

    .. math:: \Bigl(\sum_d g_d (\hat s_d - s_d)\Bigr)^2 + (\hat r - r)^2
        + \frac{\varepsilon}{D} \sum_d (\hat s_d - s_d)^2

    By Cauchy's inequality its first term is at most :math:`D^2` times that of
    ``vagram_loss``.

    Shapes: pred_next [..., D], target_next [..., D], value_grad [..., D],
      pred_reward [...], target_reward [...], mask [...] -> [...]

    Args:
      pred_next: the model's next states.
      target_next: the true ones.
      value_grad: of ``value_gradient`` at ``target_next``; carries no gradient.
      pred_reward: the model's rewards, if it has any.
      target_reward: the true ones, given if ``pred_reward`` is.
      clip_quantile: see ``vagram_loss``.
      clip_floor: see ``vagram_loss``.
      mse_weight: epsilon, at least 0; above 0 the model is determined.
      mask: bool, the examples that take part; others cost 0 and are in no quantile.

    Returns:
      In squared values, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, one of the rewards is missing, or a hyper-parameter
        is out of range.

    Numerics: the sum is right to 1e-5 of its largest term.

    Source: Value Gradient weighted Model-Based Reinforcement Learning, Voelcker et al.
      2022, arXiv:2204.01464.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import taylor_vaml_loss
    >>> pred, target = jnp.float32([[1, 1]]), jnp.zeros((1, 2))
    >>> taylor_vaml_loss(pred, target, jnp.float32([[2, -2]]))
    Array([0.], dtype=float32)
    """
    error, g, rest, keep = _parts(
        (pred_next, target_next, value_grad),
        (pred_reward, target_reward),
        (clip_quantile, clip_floor),
        mse_weight,
        mask,
    )
    return jnp.where(keep, jnp.square(jnp.sum(g * error, -1)) + rest, 0)


def value_gradient(
    value_fn: Callable[[jax.Array], jax.Array], states: ArrayLike
) -> jax.Array:
    """Slopes of a value function in the features of states, of each row its own.

    Use it for ``vagram_loss``, at the true next states. The value of a state is
    ``Q(s, policy(s))`` where a critic takes actions.

    Shapes: states [..., D] -> [..., D]

    Args:
      value_fn: rows [..., D] -> values [...], each of its own row alone.
      states: where.

    Returns:
      Values per unit of the feature, float32 (float64 for float64 states).

    Raises:
      TypeError: ``states`` is not floating point.
      ValueError: ``states`` has no axis of features, or there is not one value per row.

    Source: Voelcker et al. 2022, arXiv:2204.01464.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import value_gradient
    >>> value_gradient(lambda s: jnp.sum(s**2, -1), jnp.float32([[1, 2]]))
    Array([[2., 4.]], dtype=float32)
    """
    s, _ = kept_rows(states, None, "states")
    values, pull = jax.vjp(value_fn, s)
    check_same_shape(
        "the result of value_fn", values, "the rows of states", s.shape[:-1]
    )
    return pull(jnp.ones_like(values))[0]


def _parts(states, rewards, clip, mse_weight, mask):
    """Errors and clipped slopes [..., D], the terms both losses share, and the mask."""
    pred, keep = kept_rows(states[0], mask, "pred_next")
    target = rows_like("target_next", states[1], "pred_next", pred, mask)
    slopes = rows_like("value_grad", states[2], "pred_next", pred, mask)
    quantile, floor = clip
    check_range("clip_quantile", quantile, lambda q: (q >= 0) & (q <= 1), "in [0, 1]")
    check_range("clip_floor", floor, lambda v: v >= 0, "at least 0")
    check_range("mse_weight", mse_weight, lambda v: v >= 0, "at least 0")
    g = _clipped(jax.lax.stop_gradient(slopes), keep, quantile, floor)
    error = pred - target
    rest = weighted(mse_weight, jnp.square(error).mean(-1))
    missing = [reward is None for reward in rewards]
    if any(missing) and not all(missing):
        name = "pred_reward" if missing[0] else "target_reward"
        raise ValueError(f"{name} is None, expected both rewards or neither")
    if not any(missing):
        rest += jnp.square(
            _reward("pred_reward", rewards[0], keep, pred.dtype)
            - _reward("target_reward", rewards[1], keep, pred.dtype)
        )
    return error, g, rest, keep


def _reward(name, reward, keep, dtype):
    check_same_shape(name, reward, "the rows of pred_next", keep.shape)
    return jnp.where(keep, numerics.promote_to_float32(reward, name).astype(dtype), 0)


def _clipped(g, keep, quantile, floor):
    """Rows whose norm exceeds a quantile of the norms, and the floor, cut to it."""
    top = jnp.abs(g).max(-1, keepdims=True, initial=0)
    top = jnp.where(top > 0, top, 1)
    norm = top * jnp.sqrt(jnp.square(g / top).sum(-1, keepdims=True))  # no overflow
    # One number for each example, all of them on each device.
    rows, there = (numerics.unsharded(a) for a in (norm[..., 0], keep))
    most = kept_quantile(rows, there, jnp.asarray([quantile], g.dtype))[0]
    steep = (norm > most) & (norm > jnp.asarray(floor, g.dtype))
    return jnp.where(steep, g * (most / jnp.where(steep, norm, 1)), g)
