"""Likelihoods of answers that a policy drew, chosen or weighed by their rewards."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics.arguments import hyper, weighted

__all__ = ["awr_loss", "best_of_n_loss"]


def best_of_n_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    *,
    negative_weight: ArrayLike = 0.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of the best of N answers, optionally less the worst's.

    Use it when you imitate the best of N samples.

    .. math:: \ell = -\log \pi(a_{best}) + \lambda \log \pi(a_{worst})

    Answers are classes of one softmax, the arms of a bandit. Without a negative weight
    it is preferred fine-tuning (Pref-FT), with one it has no lower bound.

    Shapes: logits [..., C], actions [..., N], rewards [..., N], where [..., C] -> [...]

    Args:
      logits: of the policy; ``-inf`` is the same as ``where=False``.
      actions: the answers drawn for each prompt, ints in ``[0, C)``; a negative one
        is no answer and costs NaN.
      rewards: theirs; no gradient. Of equal ones the first counts.
      negative_weight: lambda, at least 0.
      axis: the class axis of ``logits`` and ``where``, and that of the answers.
      where: bool, the classes that take part. A hidden best answer costs ``inf``.

    Returns:
      One number per prompt in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``rewards`` is not floating point, ``actions`` not
        integer, ``where`` not bool.
      ValueError: the shapes disagree, there are no answers, an answer is C or more
        (NaN under ``jit``), or ``negative_weight`` is negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, but
      beside the value's zero, where the two terms cancel.

    Source: Tajwar et al. 2024, arXiv:2404.14367,
      github.com/Asap7772/understanding-rlhf.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import best_of_n_loss
    >>> best_of_n_loss(jnp.float32([40, 0]), jnp.array([1, 0]), jnp.float32([0, 1]))
    Array(4.248354e-18, dtype=float32)
    """
    z, actions, rewards = _answers(logits, actions, rewards, axis, where)
    weight = hyper(
        "negative_weight", negative_weight, z.dtype, lambda w: w >= 0, "at least 0"
    )
    best = numerics.label_nll(z, _taken(actions, jnp.argmax(rewards, -1)))
    if not isinstance(negative_weight, jax.Array) and np.all(negative_weight == 0):
        return best
    worst = numerics.label_nll(z, _taken(actions, jnp.argmin(rewards, -1)))
    return best - weighted(weight, worst)


def awr_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    *,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Advantage-weighted regression: likelihoods times exponentiated rewards.

    Use it when you have a fixed set of rewarded answers (offline).

    .. math:: \ell = -\frac{1}{N} \sum_n e^{r_n / T} \log \pi(a_n)

    Answers are classes of one softmax, the arms of a bandit.

    Shapes: logits [..., C], actions [..., N], rewards [..., N], where [..., C] -> [...]

    Args:
      logits: of the policy; ``-inf`` is the same as ``where=False``.
      actions: the answers drawn for each prompt, ints in ``[0, C)``; a negative one
        is no answer and costs NaN.
      rewards: theirs, or advantages; no gradient. Less a common number they have the
        same minimiser; the loss itself overflows where the largest, over T, is near 88.
      temperature: T, positive. The smaller, the more the best answers count.
      axis: the class axis of ``logits`` and ``where``, and that of the answers.
      where: bool, the classes that take part. A hidden answer costs ``inf``.

    Returns:
      One number per prompt, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``rewards`` is not floating point, ``actions`` not
        integer, ``where`` not bool.
      ValueError: the shapes disagree, there are no answers, an answer is C or more
        (NaN under ``jit``), or ``temperature`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins and rewards
      over T up to 80. Where a product overflows it is infinite, never NaN: a slope of 0
      stays 0, and an answer whose weight underflows costs nothing.

    Source: Peng et al. 2019, arXiv:1910.00177; as in Tajwar et al. 2024,
      arXiv:2404.14367.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import awr_loss
    >>> rewards = jnp.log(jnp.float32([1, 3]))
    >>> print(awr_loss(jnp.zeros(2), jnp.array([1, 0]), rewards, temperature=1.0))
    1.3862946
    """
    z, actions, rewards = _answers(logits, actions, rewards, axis, where)
    t = hyper("temperature", temperature, z.dtype, lambda t: t > 0, "positive")
    top = jnp.max(rewards, -1, keepdims=True)
    top = jnp.where(top == -jnp.inf, 0, top)
    weights = jnp.exp((rewards - top) / t)  # beside the largest one
    limit = math.log(float(jnp.finfo(z.dtype).max)) * (1 - 1e-6)
    half = jnp.exp(jnp.clip(top[..., 0] / t / 2, -limit, limit))  # a root of that one
    return _enlarged(z, actions, weights, half)


@jax.custom_jvp  # finite: no slope of 0 meets a product that overflows
def _enlarged(z, actions, weights, half):
    """Weighed mean of the losses of the answers, multiplied by ``half`` twice.

    In its derivative one factor comes before the slopes of the softmax and one after
    them. Both before could be infinite, and a slope of 0 times that would be NaN.
    """
    return half * _weighed(z, actions, weights) * half


@_enlarged.defjvp
def _enlarged_jvp(primals, tangents):
    (z, actions, weights, half), (dz, *_) = primals, tangents
    move = half[..., None] * dz
    mean = lambda z: _weighed(z, actions, weights)  # noqa: E731
    return _enlarged(*primals), half * jax.jvp(mean, (z,), (move,))[1]


def _weighed(z, actions, weights):
    """Mean of the losses times their weights, as one of the answers' distribution."""
    classes = jax.lax.broadcasted_iota(actions.dtype, (*z.shape, 1), z.ndim - 1)
    shares = jnp.where(actions[..., None, :] == classes, weights[..., None, :], 0)
    loss = cross_entropy(z, jnp.sum(shares, -1) / actions.shape[-1])
    unknown = jnp.any((actions < 0) & (weights != 0), -1)
    return jnp.where(unknown, jnp.nan, loss)


def _answers(logits, actions, rewards, axis, where):
    """Logits with classes last; answers and rewards [..., N] without gradient."""
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    a, r = (
        numerics.wide_labels(actions, "actions"),
        numerics.promote_to_float32(rewards, "rewards"),
    )
    if a.shape != r.shape:
        raise ValueError(f"rewards has shape {r.shape}, expected {a.shape}")
    if a.ndim:
        a, r = jnp.moveaxis(a, axis, -1), jnp.moveaxis(r, axis, -1)
    if a.ndim != z.ndim or a.shape[:-1] != z.shape[:-1] or not a.shape[-1]:
        raise ValueError(
            f"actions has shape {a.shape}, expected {z.shape[:-1]} and at least one "
            "answer"
        )
    y, known = numerics.check_labels(a, a.shape, z.shape[-1])
    r = jax.lax.stop_gradient(r.astype(z.dtype))
    return z, jnp.where(known, y, -1), r


def _taken(actions, place):
    return jnp.take_along_axis(actions, place[..., None], -1)[..., 0]
