"""Advantages of rollouts from their rewards: of groups that share a prompt."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper
from logitlab.rl import _operands as operands

__all__ = [
    "group_advantages",
    "ngrpo_advantages",
    "overlong_penalty",
    "rloo_advantages",
]


_SCALES = ("group", "batch", "none")


def group_advantages(
    rewards: ArrayLike, *, scale: str = "group", eps: ArrayLike = 1e-4
) -> jax.Array:
    r"""GRPO's advantages: rewards standardized within their group.

    Use it with ``losses.ppo_clip_loss``.

    .. math:: A_i = \frac{r_i - \bar r}{s + \epsilon}

    with the mean of the group and the deviation s (Bessel's correction) of the group or
    of the whole batch; ``"none"``, which is Dr. GRPO, does not divide.

    Shapes: rewards [..., G] -> [..., G]

    Args:
      rewards: of G rollouts of each prompt. One that is NaN is left out: its advantage
        is 0.
      scale: ``"group"``, ``"batch"`` or ``"none"``.
      eps: at least 0. 1e-4 in ``trl``, 1e-6 in ``verl``.

    Returns:
      Advantages without gradient, float32 (float64 for float64 rewards). Exactly 0 for
      a group of one and for equal rewards.

    Raises:
      TypeError: ``rewards`` is not floating point.
      ValueError: ``rewards`` has no axis, an unknown scale, or ``eps`` is negative.

    Numerics: relative error below 1e-5 of the largest advantage, for rewards that
      differ by more than their rounding.

    Source: GRPO, Shao et al. 2024, arXiv:2402.03300; Dr. GRPO, Liu et al. 2025,
      arXiv:2503.20783; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import group_advantages
    >>> group_advantages(jnp.float32([[1, 0, 0, 1], [1, 1, 1, 1]]), scale="none")
    Array([[ 0.5, -0.5, -0.5,  0.5],
           [ 0. ,  0. ,  0. ,  0. ]], dtype=float32)
    """
    if scale not in _SCALES:
        raise ValueError(f"scale is {scale!r}, expected one of {_SCALES}")
    r, known = _rewards(rewards)
    eps = hyper("eps", eps, r.dtype, lambda e: e >= 0, "at least 0")
    mean, deviation = moments(r, known, -1)
    if scale == "batch":
        _, deviation = moments(r, known, None)
    unit = 1 if scale == "none" else deviation + eps
    return _constant(jnp.where(known, _over(r - mean, unit), 0))


def ngrpo_advantages(
    rewards: ArrayLike,
    *,
    max_reward: ArrayLike = 1.0,
    n_virtual: int = 1,
    eps: ArrayLike = 1e-6,
) -> jax.Array:
    r"""NGRPO's advantages: GRPO's after adding virtual rollouts of full reward.

    Use it when groups without a right answer should teach, too.

    .. math:: A_i = \frac{r_i - \bar r}{s + \epsilon}, \quad
        \bar r, s \text{ of } (r_1, \dots, r_G, r_{max}, \dots, r_{max})

    An all-wrong group gets :math:`-1 / \sqrt{G + 1}` with one imagined rollout, an
    all-correct one 0. Clip asymmetrically with them: ``ppo_clip_loss(...,
    clip_low=0.16, clip_high=0.24)``.

    Shapes: rewards [..., G] -> [..., G]

    Args:
      rewards: of G rollouts of each prompt. One that is NaN is left out: its advantage
        is 0.
      max_reward: of the imagined rollouts.
      n_virtual: how many of them, at least 0: a size of arrays, so never traced.
      eps: at least 0.

    Returns:
      Advantages without gradient, float32 (float64 for float64 rewards). A group of one
      is not joined: its advantage is :math:`r / (1 + \epsilon)`, as in the released
      code.

    Raises:
      TypeError: ``rewards`` is not floating point.
      ValueError: ``rewards`` has no axis, or ``n_virtual`` or ``eps`` is negative.

    Numerics: relative error below 1e-5 of the largest advantage.

    Source: NGRPO 2025, arXiv:2509.18851, github.com/nangongrui-ngr/NGRPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import ngrpo_advantages
    >>> ngrpo_advantages(jnp.zeros((1, 3)))
    Array([[-0.499999, -0.499999, -0.499999]], dtype=float32)
    """
    check_range("n_virtual", n_virtual, lambda n: n >= 0, "at least 0")
    r, known = _rewards(rewards)
    eps = hyper("eps", eps, r.dtype, lambda e: e >= 0, "at least 0")
    if r.shape[-1] == 1:
        return _constant(jnp.where(known, r / (1 + eps), 0))
    best = jnp.full((*r.shape[:-1], n_virtual), max_reward, r.dtype)
    joined = jnp.concatenate([r, best], -1)
    taken = jnp.concatenate([known, jnp.ones_like(best, bool)], -1)
    mean, deviation = moments(joined, taken, -1)
    return _constant(jnp.where(known, _over(r - mean, deviation + eps), 0))


def rloo_advantages(
    rewards: ArrayLike, *, normalize: bool = False, eps: ArrayLike = 1e-4
) -> jax.Array:
    r"""RLOO's advantages: the reward less the mean of the others in its group.

    Use it for an unbiased baseline without a value function.

    .. math:: A_i = r_i - \frac{1}{G - 1} \sum_{j \ne i} r_j =
        \frac{G}{G - 1} (r_i - \bar r)

    Shapes: rewards [..., G] -> [..., G]

    Args:
      rewards: of G rollouts of each prompt. One that is NaN is left out: its advantage
        is 0.
      normalize: centre and scale them over the whole batch, by a deviation (Bessel's
        correction) plus ``eps``.
      eps: at least 0.

    Returns:
      Advantages without gradient, float32 (float64 for float64 rewards). Exactly 0 for
      a group of one and, not normalised, for equal rewards.

    Raises:
      TypeError: ``rewards`` is not floating point.
      ValueError: ``rewards`` has no axis, or ``eps`` is negative.

    Numerics: relative error below 1e-5 of the largest advantage.

    Source: RLOO, Ahmadian et al. 2024, arXiv:2402.14740; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import rloo_advantages
    >>> rloo_advantages(jnp.float32([3, 0, 0]))
    Array([ 3. , -1.5, -1.5], dtype=float32)
    """
    r, known = _rewards(rewards)
    eps = hyper("eps", eps, r.dtype, lambda e: e >= 0, "at least 0")
    mean, _ = moments(r, known, -1)
    count = known.sum(-1, keepdims=True, dtype=r.dtype)
    a = jnp.where(known, (r - mean) * (count / jnp.maximum(count - 1, 1)), 0)
    if normalize:
        mean, deviation = moments(a, known, None)
        a = jnp.where(known, _over(a - mean, deviation + eps), 0)
    return _constant(a)


def overlong_penalty(
    length: ArrayLike, *, max_len: ArrayLike, cache: ArrayLike
) -> jax.Array:
    r"""DAPO's soft penalty of long answers, to be added to their rewards.

    .. math:: 0 \ (|y| \le L - C), \quad \frac{L - C - |y|}{C}, \quad
        -1 \ (|y| > L)

    Shapes: length [...] -> [...]

    Args:
      length: tokens of each answer, numbers of any type.
      max_len: L.
      cache: C, from 1 to ``max_len``: the last tokens, which cost.

    Returns:
      From -1 to 0, float32 (float64 for float64 lengths).

    Raises:
      ValueError: ``cache`` or ``max_len`` is out of its range.

    Source: DAPO, Yu et al. 2025, arXiv:2503.14476.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import overlong_penalty
    >>> overlong_penalty(jnp.array([10, 15, 30]), max_len=20, cache=10)
    Array([ 0. , -0.5, -1. ], dtype=float32)
    """
    length = operands.counted(length)
    longest = hyper("max_len", max_len, length.dtype, lambda n: n >= 1, "at least 1")
    if not isinstance(max_len, jax.core.Tracer):
        in_order = lambda c: (c >= 1) & (c <= np.asarray(max_len))  # noqa: E731
        check_range("cache", cache, in_order, f"1 to {max_len}")
    cache = hyper("cache", cache, length.dtype)
    return jnp.clip((longest - cache - length) / cache, -1, 0)


def moments(
    x: jax.Array, keep: jax.Array, axis: int | None
) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation (Bessel's correction) of what is kept, the axis kept too.

    Equal numbers have exactly themselves as mean. The deviation of one is 0, and so are
    both numbers of none.
    """
    count = jnp.maximum(keep.sum(axis, keepdims=True, dtype=jnp.int32), 1)
    count = count.astype(x.dtype)
    least = jnp.min(x, axis, keepdims=True, where=keep, initial=jnp.inf)
    least = jnp.where(least == jnp.inf, 0, least)
    above = jnp.where(keep, x - least, 0) / count
    mean = least + above.sum(axis, keepdims=True)
    off = jnp.where(keep, x - mean, 0)
    # Scaled, because the squares of 1e30 overflow.
    top = jnp.abs(off).max(axis, keepdims=True, initial=0)
    top = jnp.where(top > 0, top, 1)
    squares = jnp.square(off / top).sum(axis, keepdims=True)
    return mean, top * jnp.sqrt(squares / jnp.maximum(count - 1, 1))


def _rewards(rewards):
    """Promoted rewards, 0 for those that are NaN, and which are not."""
    r = numerics.promote_to_float32(rewards, "rewards")
    if not r.ndim:
        raise ValueError("rewards has shape (), expected [..., G]")
    known = ~jnp.isnan(r)
    return jnp.where(known, r, 0), known


def _over(x, unit):
    """A quotient that is 0 where there is nothing to divide by."""
    return jnp.where(unit > 0, x / jnp.where(unit > 0, unit, 1), 0)


def _constant(advantages):
    return jax.lax.stop_gradient(advantages)
