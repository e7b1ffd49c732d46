"""Losses of reward models, and how several rewards become one utility."""

import warnings

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.preference import draws, pairs
from logitlab.losses.rows import Row

__all__ = [
    "bradley_terry_loss",
    "combine_rewards_and",
    "lsc_transform",
    "plackett_luce_loss",
    "reference_quantile",
]

NOT_LOSSES = ("combine_rewards_and", "lsc_transform", "reference_quantile")


def bradley_terry_loss(
    chosen_reward: ArrayLike,
    rejected_reward: ArrayLike,
    *,
    margin: ArrayLike = 0.0,
    center_coef: ArrayLike = 0.0,
) -> jax.Array:
    r"""Bradley-Terry loss of a reward model: minus the log-odds' log-probability.

    .. math:: \ell = \mathrm{sp}\bigl(-(r_w - r_l - m)\bigr) + c\, (r_w + r_l)^2

    Shapes: chosen_reward [...], rejected_reward [...] -> [...]

    Args:
      chosen_reward: of the answers that were preferred.
      rejected_reward: of the others.
      margin: m, by how much better, one number or [...].
      center_coef: c, at least 0, the weight of a penalty that keeps rewards around 0.

    Returns:
      One number per pair in nats, float32 (float64 for float64 rewards).

    Raises:
      TypeError: a reward is not floating point.
      ValueError: the shapes differ, or ``center_coef`` is negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Bradley and Terry 1952; margin of Llama 2, arXiv:2307.09288.

    >>> print(bradley_terry_loss(jnp.float32([40, 0]), jnp.float32([0, 40])))
    [4.248354e-18 4.000000e+01]
    """
    checked("center_coef", center_coef, lambda c: c >= 0, "at least 0")
    chosen, rejected = pairs.logps_like(
        chosen_reward=chosen_reward, rejected_reward=rejected_reward
    )
    coef = jnp.asarray(center_coef, chosen.dtype)
    mean = jnp.where(coef == 0, 0, chosen / 2 + rejected / 2)
    x = chosen - rejected - jnp.asarray(margin, chosen.dtype)
    return pairs.logistic(x) + 4 * coef * jnp.square(mean)


def plackett_luce_loss(
    rewards: ArrayLike,
    ranks: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Plackett-Luce loss of a ranking: each answer against all that are worse.

    .. math:: \ell = \sum_k \log\Bigl(1 + \sum_{j \text{ worse than } k}
        e^{r_j - r_k}\Bigr)

    Of two answers it is ``bradley_terry_loss``. Answers of one rank are not compared.

    Shapes: rewards [..., K], ranks [..., K], where [..., K] -> [...]

    Args:
      rewards: of K answers to one prompt; ``-inf`` is the same as ``where=False``.
      ranks: of the answers; the smaller, the better.
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

    >>> print(plackett_luce_loss(jnp.float32([0, 40]), jnp.array([2, 1])))
    4.248354e-18
    """
    r = numerics.class_axis_last(rewards, axis=axis, where=where, name="rewards")
    ranks = jnp.asarray(ranks)
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


def lsc_transform(reward: ArrayLike, ref_reward: ArrayLike) -> jax.Array:
    r"""Log-sigmoid-centred reward: the log-probability of being good enough.

    .. math:: u = \log \sigma(r - r_{ref}) = -\mathrm{sp}(r_{ref} - r)

    Linear for bad answers, saturated for good ones.

    Args:
      reward: [...], of answers.
      ref_reward: what is just good enough for the prompt, of a shape that broadcasts to
        that of ``reward``; no gradient. See :func:`reference_quantile`.

    Returns:
      Utilities in nats, at most 0, float32 (float64 for float64 rewards).

    Raises:
      TypeError: an array is not floating point.
      ValueError: ``ref_reward`` does not broadcast to ``reward``.

    Source: Wang et al. 2024, arXiv:2402.00742.

    >>> print(lsc_transform(jnp.float32([-3, 1, 5]), jnp.float32(1)).round(5))
    [-4.01815 -0.69315 -0.01815]
    """
    r = numerics.promote(reward, "reward")
    ref = numerics.promote(ref_reward, "ref_reward").astype(r.dtype)
    try:
        ref = jnp.broadcast_to(ref, r.shape)
    except ValueError:
        raise ValueError(
            f"ref_reward has shape {ref.shape}, expected one that broadcasts to "
            f"reward, {r.shape}"
        ) from None
    return -jax.nn.softplus(jax.lax.stop_gradient(ref) - r)


def reference_quantile(
    ref_rewards: ArrayLike,
    *,
    q: ArrayLike = 0.85,
    axis: int = -1,
    gaussian: bool = False,
) -> jax.Array:
    r"""What is just good enough for a prompt: a quantile of the base policy's rewards.

    Args:
      ref_rewards: [..., N], of answers of the base policy to one prompt.
      q: the quantile, in (0, 1).
      axis: the axis of the answers.
      gaussian: from few answers, mean + 1.0364 standard deviations (for 0.85) instead.

    Returns:
      One number for each prompt, float32 (float64 for float64 rewards); 0 with a
      warning where there are no answers.

    Raises:
      TypeError: ``ref_rewards`` is not floating point.
      ValueError: no such axis, or ``q`` is outside (0, 1).

    Source: Wang et al. 2024, arXiv:2402.00742; the Gaussian form inferred.

    >>> reference_quantile(jnp.float32([0, 1, 2, 3, 4]), q=0.75)
    Array(3., dtype=float32)
    """
    checked("q", q, lambda q: (q > 0) & (q < 1), "a number in (0, 1)")
    r = numerics.promote(ref_rewards, "ref_rewards")
    if not -r.ndim <= axis < r.ndim:
        raise ValueError(
            f"axis {axis} is not an axis of ref_rewards with shape {r.shape}"
        )
    r = jnp.moveaxis(r, axis, -1)
    if not r.shape[-1]:
        warnings.warn("no reference rewards: 0 is just good enough", stacklevel=2)
        return jnp.zeros(r.shape[:-1], r.dtype)
    q = jnp.asarray(q, r.dtype)
    if gaussian:
        return r.mean(-1) + jax.scipy.special.ndtri(q) * r.std(-1)
    return jnp.quantile(r, q, axis=-1)


def combine_rewards_and(
    rewards: ArrayLike, ref_rewards: ArrayLike, *, axis: int = 0
) -> jax.Array:
    r"""Utility of an answer that should be good in every respect.

    .. math:: u = \sum_k \log \sigma(r_k - r_{ref, k})

    the log-probability of that, if the properties are independent.

    Args:
      rewards: [K, ...], one for each property.
      ref_rewards: what is just good enough, of a shape that broadcasts to that of
        ``rewards``; no gradient.
      axis: the axis of the properties.

    Returns:
      Utilities in nats, at most 0, float32 (float64 for float64 rewards).

    Raises:
      TypeError: an array is not floating point.
      ValueError: no such axis, or ``ref_rewards`` does not broadcast to ``rewards``.

    Source: Wang et al. 2024, arXiv:2402.00742.

    >>> print(combine_rewards_and(jnp.float32([0, 0]), jnp.float32(0)).round(4))
    -1.3863
    """
    utilities = lsc_transform(rewards, ref_rewards)
    if not -utilities.ndim <= axis < utilities.ndim:
        raise ValueError(
            f"axis {axis} is not an axis of rewards with shape {utilities.shape}"
        )
    return utilities.sum(axis)


def _ranked(key, shape, dtype):
    ranks = jax.random.uniform(jax.random.fold_in(key, 1), shape)
    return 3 * jax.random.normal(key, shape, dtype), jnp.argsort(ranks, -1)


ROWS = (
    draws.pair_row(
        bradley_terry_loss,
        "Bradley and Terry 1952",
        draws.without_reference,
        convex=True,
    ),
    Row(
        plackett_luce_loss,
        "example",
        _ranked,
        "Plackett 1975",
        convex=True,
        gathers="answers are compared in pairs",
    ),
)
