"""Likelihoods of answers that a policy drew, chosen or weighed by their rewards."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.rows import Row

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
    r"""Cross-entropy of the best of N answers to a prompt, and away from the worst.

    .. math:: \ell = -\log \pi(a_{best}) + \lambda \log \pi(a_{worst})

    Answers are classes of one softmax, the arms of a bandit. Without a negative weight
    it is preferred fine-tuning (Pref-FT), with one it has no lower bound.

    Shapes: logits [..., C], actions [..., N], rewards [..., N], where [..., C] -> [...]

    Args:
      logits: of the policy; ``-inf`` is the same as ``where=False``.
      actions: the answers drawn for each prompt, ints in ``[0, C)``.
      rewards: theirs; no gradient. Of equal ones the first counts.
      negative_weight: lambda, at least 0.
      axis: the class axis of ``logits`` and ``where``, and that of the answers.
      where: bool, the classes that take part. A hidden best answer costs ``inf``.

    Returns:
      One number per prompt in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``rewards`` is not floating point, ``actions`` not
        integer, ``where`` not bool.
      ValueError: the shapes disagree, there are no answers, an answer is out of range
        (NaN under ``jit``), or ``negative_weight`` is negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, but
      beside the value's zero, where the two terms cancel.

    Source: Tajwar et al. 2024, arXiv:2404.14367,
      github.com/Asap7772/understanding-rlhf.

    >>> best_of_n_loss(jnp.float32([40, 0]), jnp.array([1, 0]), jnp.float32([0, 1]))
    Array(4.248354e-18, dtype=float32)
    """
    checked("negative_weight", negative_weight, lambda w: w >= 0, "at least 0")
    z, actions, rewards = _answers(logits, actions, rewards, axis, where)

    best = numerics.label_nll(z, _taken(actions, jnp.argmax(rewards, -1)))
    if not isinstance(negative_weight, jax.Array) and np.all(negative_weight == 0):
        return best
    weight = jnp.asarray(negative_weight, z.dtype)
    worst = numerics.label_nll(z, _taken(actions, jnp.argmin(rewards, -1)))
    return best - weight * jnp.where(weight == 0, 0, worst)


def awr_loss(
    logits: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    *,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Advantage-weighted regression: likelihoods weighed by exponential rewards.

    .. math:: \ell = -\frac{1}{N} \sum_n e^{r_n / T} \log \pi(a_n)

    Answers are classes of one softmax, the arms of a bandit.

    Shapes: logits [..., C], actions [..., N], rewards [..., N], where [..., C] -> [...]

    Args:
      logits: of the policy; ``-inf`` is the same as ``where=False``.
      actions: the answers drawn for each prompt, ints in ``[0, C)``.
      rewards: theirs, or advantages; no gradient. Less a common number they have the
        same minimiser; their largest, over T, should stay below 80.
      temperature: T, positive. The smaller, the more the best answers count.
      axis: the class axis of ``logits`` and ``where``, and that of the answers.
      where: bool, the classes that take part. A hidden answer costs ``inf``.

    Returns:
      One number per prompt, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``rewards`` is not floating point, ``actions`` not
        integer, ``where`` not bool.
      ValueError: the shapes disagree, there are no answers, an answer is out of range
        (NaN under ``jit``), or ``temperature`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      infinite where a log-probability overflows, however small its weight.

    Source: Peng et al. 2019, arXiv:1910.00177; as in Tajwar et al. 2024,
      arXiv:2404.14367.

    >>> rewards = jnp.log(jnp.float32([1, 3]))
    >>> awr_loss(jnp.zeros(2), jnp.array([1, 0]), rewards, temperature=1.0)
    Array(1.3862944, dtype=float32)
    """
    checked("temperature", temperature, lambda t: t > 0, "positive")
    z, actions, rewards = _answers(logits, actions, rewards, axis, where)
    weights = jnp.exp(rewards / jnp.asarray(temperature, z.dtype))
    nll = jax.vmap(numerics.label_nll, (None, -1), -1)(z, actions)
    # Divided before they are summed: the largest numbers have a mean, no sum.
    return jnp.sum(weights / actions.shape[-1] * nll, -1)


def _answers(logits, actions, rewards, axis, where):
    """Logits with classes last; answers and rewards [..., N] without gradient."""
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    a, r = jnp.asarray(actions), numerics.promote(rewards, "rewards")
    if a.shape != r.shape:
        raise ValueError(f"rewards has shape {r.shape}, expected {a.shape}")
    if a.ndim:
        a, r = jnp.moveaxis(a, axis, -1), jnp.moveaxis(r, axis, -1)
    if a.ndim != z.ndim or a.shape[:-1] != z.shape[:-1] or not a.shape[-1]:
        raise ValueError(
            f"actions has shape {a.shape}, expected {z.shape[:-1]} and at least one "
            "answer"
        )
    return z, a, jax.lax.stop_gradient(r.astype(z.dtype))


def _taken(actions, place):
    return jnp.take_along_axis(actions, place[..., None], -1)[..., 0]


def _drawn(key, shape, dtype):
    """Logits, three answers for each row, none the last class, and their rewards."""
    keys = jax.random.split(key, 3)
    drawn = (*shape[:-1], 3)
    return (
        3 * jax.random.normal(keys[0], shape, dtype),
        jax.random.randint(keys[1], drawn, 0, max(shape[-1] - 1, 1)),
        # Weights of at least 1 after the mean: less than that of what overflows is not.
        jnp.log(3.0).astype(dtype) + jnp.abs(jax.random.normal(keys[2], drawn, dtype)),
    )


ROWS = (
    Row(
        best_of_n_loss,
        "example",
        _drawn,
        "Tajwar et al. 2024, arXiv:2404.14367",
        convex=True,
        symmetric=False,  # the answers are classes too, but none of the labels
    ),
    Row(
        awr_loss,
        "example",
        _drawn,
        "Peng et al. 2019, arXiv:1910.00177",
        hyper={"temperature": 1.0},
        convex=True,
        symmetric=False,  # the answers are classes too, but none of the labels
    ),
)
