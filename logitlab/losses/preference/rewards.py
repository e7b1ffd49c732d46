"""Losses of reward models, and how several rewards become one utility."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import arguments
from logitlab.numerics.arguments import check_range

__all__ = ["bradley_terry_loss", "plackett_luce_loss"]


def bradley_terry_loss(
    chosen_rewards: ArrayLike,
    rejected_rewards: ArrayLike,
    *,
    margin: ArrayLike = 0.0,
    center_coef: ArrayLike = 0.0,
) -> jax.Array:
    r"""Bradley-Terry loss of a reward model: logistic loss of the difference.

    Use it when a reward model learns from pairs.

    .. math:: \ell = \mathrm{sp}\bigl(-(r_w - r_l - m)\bigr) + c\, (r_w + r_l)^2

    Shapes: chosen_rewards [...], rejected_rewards [...] -> [...]

    Args:
      chosen_rewards: of the answers that were preferred.
      rejected_rewards: of the others.
      margin: m, by how much better, one number or [...].
      center_coef: c, at least 0, the weight of a penalty that keeps rewards around 0.

    Returns:
      One number per pair in nats, float32 (float64 for float64 rewards).

    Raises:
      TypeError: a reward is not floating point.
      ValueError: the shapes differ, or ``center_coef`` is negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      beside the larger of the two terms where their slopes cancel.

    Source: Bradley and Terry 1952; margin of Llama 2, arXiv:2307.09288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bradley_terry_loss
    >>> print(bradley_terry_loss(jnp.float32([40, 0]), jnp.float32([0, 40])))
    [4.248354e-18 4.000000e+01]
    """
    check_range("center_coef", center_coef, lambda c: c >= 0, "at least 0")
    chosen, rejected = arguments.logps_like(
        chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards
    )
    coef = jnp.asarray(center_coef, chosen.dtype)
    mean = jnp.where(coef == 0, 0, (chosen + rejected) / 2)
    x = chosen - rejected - arguments.hyper("margin", margin, chosen.dtype)
    return pairs.logistic(x) + 4 * coef * jnp.square(mean)


def plackett_luce_loss(
    rewards: ArrayLike,
    ranks: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Plackett-Luce loss of a ranking: each answer against all that are worse.

    Use it when a reward model learns from rankings of many answers.

    .. math:: \ell = \sum_k \log\Bigl(1 + \sum_{j \text{ worse than } k}
        e^{r_j - r_k}\Bigr)

    Of two answers it is ``bradley_terry_loss``. Answers of one rank are not compared.

    Shapes: rewards [..., K], ranks [..., K], where [..., K] -> [...]

    Args:
      rewards: of K answers to one prompt; ``-inf`` is the same as ``where=False``.
      ranks: of the answers, numbers of any type; the smaller, the better.
      axis: the axis of the answers of all arrays.
      where: bool, the answers that there are.

    Returns:
      One number per prompt in nats, float32 (float64 for float64 rewards); 0 for less
      than two answers.

    Raises:
      TypeError: ``rewards`` is not floating point, or ``where`` is not bool.
      ValueError: the shapes differ, or no such axis.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Plackett 1975; for reward models Rafailov et al. 2023, arXiv:2305.18290.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import plackett_luce_loss
    >>> print(plackett_luce_loss(jnp.float32([0, 40]), jnp.array([2, 1])))
    4.248354e-18
    """
    r = numerics.prepare_logits(rewards, axis=axis, where=where, name="rewards")
    ranks = pairs.coded(ranks)
    if ranks.shape != jnp.shape(rewards):
        raise ValueError(
            f"ranks has shape {ranks.shape}, expected {jnp.shape(rewards)}, that of "
            "rewards"
        )
    ranks = jnp.moveaxis(ranks, axis, -1)
    worse = ranks[..., None, :] > ranks[..., None]
    rest = numerics.logsumexp(jnp.where(worse, r[..., None, :], -jnp.inf))
    compared = (r > -jnp.inf) & (rest > -jnp.inf)
    x = jnp.where(compared, r, 0) - jnp.where(compared, rest, 0)
    return jnp.where(compared, pairs.logistic(x), 0).sum(-1)
