"""Chances of a bandit's arms, from losses that are estimated or predicted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["inverse_gap_weighting", "log_barrier_policy", "magnitude_reduced"]

_STEPS = 8  # of Newton's method, which 1000 arms and losses of any size need at most


def log_barrier_policy(
    cum_losses: ArrayLike,
    *,
    eta: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Chances of arms by follow the regularized leader with a log-barrier.

    Take it where estimated losses may be far below 0: exponential weights with a rate
    that is as large then put all on one arm, and these never do.

    .. math:: \arg\min_{\pi \in \Delta} \langle \pi, L \rangle
        + \frac{1}{\eta} \sum_a \log \frac{1}{\pi_a}, \quad
        \pi_a = \frac{1}{\eta (L_a + \lambda)}

    with the :math:`\lambda` that makes them add up to 1.

    Shapes: cum_losses [..., K], where [..., K] -> [..., K]

    Args:
      cum_losses: L, the sums of the estimated losses so far; ``inf`` is the same as
        ``where=False``.
      eta: the learning rate, above 0; may be traced.
      axis: the axis of the arms.
      where: bool, the arms there are; the others get 0.

    Returns:
      Probabilities, float32 (float64 for float64 losses); 0 where every arm is hidden.

    Raises:
      TypeError: ``cum_losses`` is not floating point.
      ValueError: ``eta`` is not above 0.

    Numerics: 1e-12 in float64 for 1000 arms and losses of 1e4 in size. Newton's method
      on the harmonic mean of the gaps, which is concave, so that it climbs from the
      left end, where one arm alone would have all, and never leaves the domain; the
      last step carries the derivative.

    Source: Refined Regret for Adversarial MDPs with Linear Function Approximation, Dai
      et al. 2023, arXiv:2301.12942.

    >>> import numpy as np
    >>> from logitlab.optim import log_barrier_policy
    >>> print(np.asarray(log_barrier_policy(np.float32([0, 1, 3]), eta=1.0)).round(4))
    [0.4794 0.324  0.1966]
    """
    gaps, shown, _ = _above_least(cum_losses, "cum_losses", axis, where)
    gaps = gaps * hyper("eta", eta, gaps.dtype, lambda e: e > 0, "above 0")
    level = jnp.ones_like(gaps[..., :1])
    for left in reversed(range(_STEPS)):
        # At the root a step is 0 and has the derivative of the root.
        now = gaps if left == 0 else jax.lax.stop_gradient(gaps)
        p = _reciprocal(now + level, shown)
        total = p.sum(-1, keepdims=True)
        pace = jax.lax.stop_gradient(total / jnp.square(p).sum(-1, keepdims=True))
        level = level + jnp.where(total > 0, (total - 1) * pace, 0)
    p = _reciprocal(gaps + level, shown)
    return jnp.moveaxis(p, -1, axis)


def magnitude_reduced(estimates: ArrayLike, mean_negative_part: ArrayLike) -> jax.Array:
    r"""Loss estimates without their heavy negative tail, and with the same mean.

    .. math:: \hat Z = Z - \min(Z, 0) + m, \quad m = E[\min(Z, 0)]

    Use it before a policy that bears no estimates far below 0: the result is never
    below m. Where m is itself an estimate, it must be from other draws than Z, and
    unbiased.

    Shapes: estimates [...], mean_negative_part [] -> [...]

    Args:
      estimates: Z.
      mean_negative_part: m, a number or an array of the shape of Z.

    Returns:
      float32 (float64 for float64 estimates).

    Raises:
      TypeError: ``estimates`` is not floating point.

    Source: Refined Regret for Adversarial MDPs with Linear Function Approximation, Dai
      et al. 2023, arXiv:2301.12942; the form is inferred from the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import magnitude_reduced
    >>> magnitude_reduced(jnp.float32([-4, 1]), -2.0)
    Array([-2., -1.], dtype=float32)
    """
    z = numerics.promote_to_float32(estimates, "estimates")
    return jnp.maximum(z, 0) + hyper("mean_negative_part", mean_negative_part, z.dtype)


def inverse_gap_weighting(
    losses: ArrayLike,
    *,
    gamma: ArrayLike,
    kind: str = "square",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Chances of arms that fall with the gap of their predicted losses.

    Use it to explore with a network that predicts losses, trained on what was pulled.

    .. math:: \text{square:} \quad p_a = \frac{1}{K + \gamma (\hat y_a - \hat y_b)},
        \qquad \text{fast:} \quad p_a = \frac{\hat y_b}{K \hat y_b
        + \gamma (\hat y_a - \hat y_b)}

    for all arms but the best one, b, which gets the rest. "square" (SquareCB) goes with
    predictions by the squared error, "fast" (FastCB) with ``losses.bandit_kl_loss``:
    where the best loss is near 0 it hardly explores.

    Shapes: losses [..., K], where [..., K] -> [..., K]

    Args:
      losses: predicted losses, at least 0 for "fast"; clip them to [1e-4, 1 - 1e-4].
        ``inf`` is the same as ``where=False``.
      gamma: at least 0; the larger, the greedier. 0 is uniform. May be traced.
      kind: "square" or "fast".
      axis: the axis of the arms.
      where: bool, the arms there are; the others get 0.

    Returns:
      Probabilities, float32 (float64 for float64 losses); of equal losses the first is
      the best. 0 where every arm is hidden.

    Raises:
      TypeError: ``losses`` is not floating point.
      ValueError: ``gamma`` is negative, or ``kind`` is another word.

    Source: Abe and Long 1999; Foster and Rakhlin 2020, arXiv:2002.04926 (square);
      Foster and Krishnamurthy 2021, arXiv:2107.02237 (fast); Deb et al. 2023,
      arXiv:2312.07145.

    >>> import numpy as np
    >>> from logitlab.optim import inverse_gap_weighting
    >>> y = np.float32([0.2, 0.5, 0.4])
    >>> print(np.asarray(inverse_gap_weighting(y, gamma=10.0)).round(4))
    [0.6333 0.1667 0.2   ]
    >>> print(np.asarray(inverse_gap_weighting(y, gamma=10.0, kind="fast")).round(4))
    [0.8675 0.0556 0.0769]
    """
    if kind not in ("square", "fast"):
        raise ValueError(f"kind is {kind!r}, expected 'square' or 'fast'")
    gaps, shown, least = _above_least(losses, "losses", axis, where)
    gamma = hyper("gamma", gamma, gaps.dtype, lambda g: g >= 0, "at least 0")
    many = shown.sum(-1, keepdims=True).astype(gaps.dtype)
    scaled = gamma * gaps
    if kind == "fast":
        # A best loss of 0 leaves nothing to explore for, even among equals.
        scaled = jnp.where(least > 0, scaled / jnp.where(least > 0, least, 1), jnp.inf)
    best = jnp.argmin(jnp.where(shown, gaps, jnp.inf), -1, keepdims=True)
    is_best = jax.lax.broadcasted_iota(best.dtype, gaps.shape, gaps.ndim - 1) == best
    p = _reciprocal(many + scaled, shown & ~is_best)
    rest = 1 - p.sum(-1, keepdims=True)
    return jnp.moveaxis(jnp.where(is_best & shown, rest, p), -1, axis)


def _above_least(losses, name, axis, where):
    """Losses less the least one, arms last, 0 where hidden; what is shown; the least.

    The least is 0 where every arm is hidden.
    """
    x = -numerics.promote_to_float32(losses, name)
    x = -numerics.prepare_logits(x, axis=axis, where=where, name=name)
    shown = x != jnp.inf
    least = x.min(-1, keepdims=True)
    least = jnp.where(least == jnp.inf, 0, least)
    return jnp.where(shown, jnp.where(shown, x, 0) - least, 0), shown, least


def _reciprocal(x, shown):
    return jnp.where(shown, 1 / jnp.where(shown, x, 1), 0)
