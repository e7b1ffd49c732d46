"""Returns and advantages of token rewards: GAE, REINFORCE++, ReMax, PSR and NSR."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range, hyper, weighted
from logitlab.rl import _operands as operands
from logitlab.rl.advantages import moments

__all__ = [
    "gae",
    "masked_whiten",
    "psr_nsr_advantages",
    "reinforce_pp_advantages",
    "remax_advantages",
]


_KINDS = ("positive", "negative", "weighted")


def gae(
    rewards: ArrayLike,
    values: ArrayLike,
    *,
    gamma: ArrayLike = 1.0,
    lam: ArrayLike = 0.95,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Generalised advantage estimation, and the returns that values should predict.

    .. math:: A_t = \delta_t + \gamma \lambda A_{t+1}, \quad
        \delta_t = r_t + \gamma V_{t+1} - V_t, \quad R_t = A_t + V_t

    Beyond the last token V and A are 0.

    Shapes: rewards [..., T], values [..., T], mask [..., T] -> ([..., T], [..., T])

    Args:
      rewards: of the tokens.
      values: what is expected from each token on, before its reward.
      gamma: discount of a token, from 0 to 1.
      lam: from 0 (one step ahead) to 1 (the whole return).
      mask: bool, the tokens that there are; the others are as if deleted.

    Returns:
      Advantages, not whitened, and returns, both without gradient and 0 where masked,
      float32 (float64 for float64 rewards).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``gamma`` or ``lam`` is outside [0, 1].

    Numerics: the error of float32 sums.

    Source: Schulman et al. 2016, arXiv:1506.02438.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import gae
    >>> advantages, returns = gae(jnp.float32([0, 1]), jnp.float32([0.5, 0.5]), lam=1.0)
    >>> print(advantages, returns)
    [0.5 0.5] [1. 1.]
    """
    r, keep = operands.tokens(rewards, mask, "rewards")
    share = lambda g: (g >= 0) & (g <= 1)  # noqa: E731
    gamma = hyper("gamma", gamma, r.dtype, share, "a number from 0 to 1")
    lam = hyper("lam", lam, r.dtype, share, "a number from 0 to 1")
    r = jax.lax.stop_gradient(r)
    v = operands.constant(values, r, keep, "values")

    def step(later, token):
        value, advantage = later
        r, v, keep = token
        now = r + weighted(gamma, value) - v + weighted(gamma * lam, advantage)
        later = jnp.where(keep, v, value), jnp.where(keep, now, advantage)
        return later, jnp.where(keep, now, 0)

    end = jnp.zeros_like(r.sum(-1))
    steps = tuple(jnp.moveaxis(a, -1, 0) for a in (r, v, keep))
    _, advantages = jax.lax.scan(step, (end, end), steps, reverse=True)
    advantages = jnp.moveaxis(advantages, 0, -1)
    return advantages, advantages + v


def masked_whiten(
    values: ArrayLike, mask: ArrayLike | None = None, *, eps: ArrayLike = 1e-8
) -> jax.Array:
    r"""Values with mean 0 and variance 1 over all tokens of a batch.

    .. math:: \frac{x - \bar x}{\sqrt{s^2 + \epsilon}}

    with Bessel's correction in :math:`s^2`.

    Shapes: values [..., T], mask [..., T] -> [..., T]

    Args:
      values: of tokens, such as advantages.
      mask: bool, those that count. The others come back as what a 0 would be, as in the
        original code, where losses mask them again.
      eps: positive.

    Returns:
      Without gradient, float32 (float64 for float64 values); 0 for a single value and
      for equal ones.

    Raises:
      TypeError: ``values`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, or ``eps`` is not positive.

    Numerics: relative error below 1e-5 of the largest; no square overflows.

    Source: github.com/huggingface/trl, PPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import masked_whiten
    >>> masked_whiten(jnp.float32([1, 3, 9]), jnp.array([True, True, False]))
    Array([-0.70710677,  0.70710677, -1.4142135 ], dtype=float32)
    """
    check_range("eps", eps, lambda e: e > 0, "positive")
    x, keep = operands.tokens(values, mask, "values")
    mean, deviation = moments(x, keep, None)
    white = (x - mean) / jnp.hypot(deviation, jnp.sqrt(jnp.asarray(eps, x.dtype)))
    return jax.lax.stop_gradient(white)


def reinforce_pp_advantages(
    rewards: ArrayLike, *, gamma: ArrayLike = 1.0, mask: ArrayLike | None = None
) -> jax.Array:
    r"""REINFORCE++: discounted returns of tokens, whitened over the batch.

    .. math:: A_t = \mathrm{whiten}(R_t), \quad R_t = r_t + \gamma R_{t+1}

    Shapes: rewards [..., T], mask [..., T] -> [..., T]

    Args:
      rewards: of the tokens.
      gamma: discount of a token, from 0 to 1.
      mask: bool, the tokens that there are; the others are as if deleted.

    Returns:
      Advantages without gradient, 0 where masked, float32 (float64 for float64).

    Raises:
      TypeError: ``rewards`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, or ``gamma`` is outside [0, 1].

    Numerics: the error of float32 sums; no square overflows.

    Source: REINFORCE++, Hu 2025, arXiv:2501.03262.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import reinforce_pp_advantages
    >>> advantages = reinforce_pp_advantages(jnp.float32([[0, 1], [0, 0]]))
    >>> [f"{a:.3f}" for a in advantages[:, 0]]
    ['0.866', '-0.866']
    """
    returns, keep = _returns(rewards, gamma, mask)
    return jnp.where(keep, masked_whiten(returns, keep), 0)


def remax_advantages(
    rewards: ArrayLike, baseline: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""ReMax: returns of tokens less the reward of the greedy answer.

    .. math:: A_t = \sum_{s \ge t} r_s - b

    Shapes: rewards [..., T], baseline [...], mask [..., T] -> [..., T]

    Args:
      rewards: of the tokens.
      baseline: b, what the greedy answer to the same prompt got.
      mask: bool, the tokens that there are; the others are as if deleted.

    Returns:
      Advantages without gradient, 0 where masked, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree.

    Numerics: the error of float32 sums.

    Source: ReMax, Li et al. 2023, arXiv:2310.10505.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import remax_advantages
    >>> remax_advantages(jnp.float32([[0, 1], [0, 0]]), jnp.float32([0.5, 0.5]))
    Array([[ 0.5,  0.5],
           [-0.5, -0.5]], dtype=float32)
    """
    returns, keep = _returns(rewards, 1.0, mask)
    b = operands.per_sequence(baseline, returns, keep.any(-1), "baseline")
    return jnp.where(keep, returns - b[..., None], 0)


def psr_nsr_advantages(
    rewards: ArrayLike,
    *,
    kind: str,
    positive_weight: ArrayLike = 0.1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Advantages of PSR, NSR and weighted REINFORCE: right or wrong answers only.

    .. math:: R_t \ (\text{positive}), \quad R_t - 1 \ (\text{negative}), \quad
        \begin{cases} w R_t & \text{right} \\ R_t - 1 & \text{wrong} \end{cases} \
        (\text{weighted}), \quad R_t = \sum_{s \ge t} r_s

    Shapes: rewards [..., T], mask [..., T] -> [..., T]

    Args:
      rewards: of the tokens: 1 in all for a right answer and 0 for a wrong one, usually
        on the last token.
      kind: ``"positive"`` (PSR), ``"negative"`` (NSR) or ``"weighted"`` (W-REINFORCE).
      positive_weight: w, at least 0.
      mask: bool, the tokens that there are; the others are as if deleted.

    Returns:
      Advantages without gradient, 0 where masked, float32 (float64 for float64).

    Raises:
      TypeError: ``rewards`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, an unknown kind, or a negative weight.

    Numerics: the error of float32 sums.

    Source: Zhu et al. 2025, arXiv:2506.01347; github.com/nangongrui-ngr/NGRPO.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import psr_nsr_advantages
    >>> psr_nsr_advantages(jnp.float32([[0, 1], [0, 0]]), kind="weighted")
    Array([[ 0.1,  0.1],
           [-1. , -1. ]], dtype=float32)
    """
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {_KINDS}")
    returns, keep = _returns(rewards, 1.0, mask)
    weight = hyper(
        "positive_weight",
        positive_weight,
        returns.dtype,
        lambda w: w >= 0,
        "at least 0",
    )
    right = operands.tokens(rewards, mask, "rewards")[0].sum(-1, keepdims=True) > 0.5
    advantages = {
        "positive": returns,
        "negative": returns - 1,
        "weighted": jnp.where(right, weighted(weight, returns), returns - 1),
    }[kind]
    return jnp.where(keep, advantages, 0)


def _returns(rewards, gamma, mask):
    """Discounted sums of the rewards from each token on, and the tokens kept."""
    r, keep = operands.tokens(rewards, mask, "rewards")
    _, returns = gae(r, jnp.zeros_like(r), gamma=gamma, lam=1.0, mask=keep)
    return returns, keep
