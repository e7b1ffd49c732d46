"""From the logits of tokens to log-probabilities of completions."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.preference.pairs import log_ratio, logps_like, positive

__all__ = [
    "implicit_reward",
    "ld_sequence_log_prob",
    "sequence_log_prob",
    "shift_for_next_token",
    "token_log_prob",
    "wpo_weights",
]

NOT_LOSSES = tuple(__all__)


def shift_for_next_token(
    logits: ArrayLike, token_ids: ArrayLike, mask: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits beside the tokens that they predict: position t scores token t + 1.

    Shapes: logits [..., T, V], token_ids [..., T], mask [..., T]
      -> [..., T - 1, V], [..., T - 1], [..., T - 1]

    Args:
      logits: scores of a causal model at each position.
      token_ids: the tokens at each position.
      mask: bool, the tokens of the completion, the end of sequence among them. The
        first token, which nothing predicts, is never one of them.

    Returns:
      All logits but the last, and all tokens and marks but the first.

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes disagree.

    >>> logits, ids = jnp.zeros((2, 5, 7)), jnp.zeros((2, 5), int)
    >>> [a.shape for a in shift_for_next_token(logits, ids, ids == 0)]
    [(2, 4, 7), (2, 4), (2, 4)]
    """
    z, y = jnp.asarray(logits), jnp.asarray(token_ids)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected (..., T, V)")
    if y.shape != z.shape[:-1]:
        raise ValueError(f"token_ids has shape {y.shape}, expected {z.shape[:-1]}")
    mask = numerics.kept(mask, y.shape)
    return z[..., :-1, :], y[..., 1:], mask[..., 1:]


def token_log_prob(
    logits: ArrayLike, token_ids: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Log-probability of each token, as exact as ``cross_entropy``.

    Shapes: logits [..., V], token_ids [...], where [..., V] -> [...]

    Args:
      logits: scores, already beside the tokens that they predict.
      token_ids: ints in ``[0, V)``.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      Nats, at most 0, float32 (float64 for float64 logits).

    Raises:
      ValueError: what :func:`logitlab.numerics.label_nll` raises; it calls the ids
        labels.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    >>> print(token_log_prob(jnp.float32([40, 0]), 0))
    -4.248354e-18
    """
    return -numerics.label_nll(logits, token_ids, where=where)


def sequence_log_prob(
    logits: ArrayLike,
    token_ids: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    average: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-probability of each sequence, summed over its tokens or averaged.

    .. math:: \sum_t m_t \log p_{t, y_t}, \quad \text{or that} / \sum_t m_t

    The same numbers as ``heads.sequence_log_probs``, which needs no logits.

    Shapes: logits [..., T, V], token_ids [..., T], mask [..., T], where [..., T, V]
      -> [...]

    Args:
      logits: scores, already beside the tokens that they predict (see
        :func:`shift_for_next_token`).
      token_ids: ints in ``[0, V)``; any integer where ``mask`` is False.
      mask: bool, the tokens that count; by default all.
      average: by the number of tokens that count: a sequence without any gives 0.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      One number for each sequence, in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes disagree, or a token that counts is out of range (NaN under
        ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    >>> sequence_log_prob(jnp.zeros((2, 3, 10)), jnp.zeros((2, 3), int))
    Array([-6.9077554, -6.9077554], dtype=float32)
    """
    log_p, kept = _kept_log_probs(logits, token_ids, mask, where)
    total = log_p.sum(-1)
    return total / jnp.maximum(kept.sum(-1), 1) if average else total


def ld_sequence_log_prob(
    logits: ArrayLike,
    token_ids: ArrayLike,
    shared_lengths: ArrayLike,
    *,
    alpha: ArrayLike,
    mask: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Length-desensitised log-probability: what one answer has more counts less.

    .. math:: \sum_{t \le m} \log p_t + \alpha \sum_{t > m} \log p_t, \quad
        m = \min(n_{chosen}, n_{rejected})

    with t counting the tokens of the completion from 1. LD-DPO is ``dpo_loss`` of four
    such numbers.

    Shapes: logits [..., T, V], token_ids [..., T], shared_lengths [...], mask [..., T],
      where [..., T, V] -> [...]

    Args:
      logits: scores, already beside the tokens that they predict.
      token_ids: ints in ``[0, V)``; any integer where ``mask`` is False.
      shared_lengths: m, the length of the shorter answer of the pair.
      alpha: weight of the tokens beyond it, in [0, 1]; 1 is the sum of all.
      mask: bool, the tokens that count; by default all.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      One number for each sequence, in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes disagree, ``alpha`` is outside [0, 1], or a token that
        counts is out of range (NaN under ``jit``).

    Numerics: as :func:`sequence_log_prob`.

    Source: LD-DPO, Liu et al. 2024, arXiv:2409.06411.

    >>> logits, ids = jnp.zeros((2, 3, 10)), jnp.zeros((2, 3), int)
    >>> ld_sequence_log_prob(logits, ids, jnp.array([3, 1]), alpha=0.5)
    Array([-6.9077554, -4.6051702], dtype=float32)
    """
    checked("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")
    log_p, kept = _kept_log_probs(logits, token_ids, mask, where)
    shared = jnp.asarray(shared_lengths)
    if shared.shape != log_p.shape[:-1]:
        raise ValueError(
            f"shared_lengths has shape {shared.shape}, expected {log_p.shape[:-1]}"
        )
    beyond = jnp.cumsum(kept, -1) > shared[..., None]
    return jnp.sum(jnp.where(beyond, alpha * log_p, log_p), -1)


def wpo_weights(
    logits: ArrayLike,
    token_ids: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How much an answer is the policy's own: WPO's weight of a sequence.

    .. math:: w = \exp\Bigl(\tfrac{1}{n} \sum_t m_t
        \bigl(\log p_{t, y_t} - \log \sum_v p_{t, v}^2\bigr)\Bigr)

    A pair's loss is multiplied by the weights of both its answers (not AOT's, whose
    losses belong to no pair).

    Shapes: logits [..., T, V], token_ids [..., T], mask [..., T], where [..., T, V]
      -> [...]

    Args:
      logits: scores of the policy, already beside the tokens that they predict.
      token_ids: ints in ``[0, V)``; any integer where ``mask`` is False.
      mask: bool, the tokens that count; by default all.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      Positive numbers without gradient, 1 for a sequence without tokens, float32
      (float64 for float64 logits).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: the shapes disagree, or a token that counts is out of range (NaN under
        ``jit``).

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: WPO, Zhou et al. 2024, arXiv:2406.11827.

    >>> wpo_weights(jnp.zeros((2, 3, 10)), jnp.zeros((2, 3), int))
    Array([1., 1.], dtype=float32)
    """
    z = jax.lax.stop_gradient(numerics.promote(logits))
    log_p, kept = _kept_log_probs(z, token_ids, mask, where)
    own = numerics.logsumexp(2 * numerics.log_softmax(z, where=where))
    aligned = jnp.where(kept, log_p - jnp.where(kept, own, 0), 0)
    return jnp.exp(aligned.sum(-1) / jnp.maximum(kept.sum(-1), 1))


def implicit_reward(
    logps: ArrayLike, ref_logps: ArrayLike, *, beta: ArrayLike = 0.1
) -> jax.Array:
    r"""The reward that a policy stands for, beside its reference: for logging.

    .. math:: r = \beta (\log \pi - \log \pi_{ref})

    Shapes: logps [...], ref_logps [...] -> [...]

    Args:
      logps: of completions under the policy.
      ref_logps: of the same under the reference.
      beta: positive.

    Returns:
      Rewards without gradient, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    >>> implicit_reward(jnp.float32([-10]), jnp.float32([-12]), beta=0.5)
    Array([1.], dtype=float32)
    """
    positive(beta=beta)
    logps, ref = logps_like(logps=logps, ref_logps=ref_logps)
    return jax.lax.stop_gradient(log_ratio(logps, ref, beta))


def _kept_log_probs(logits, token_ids, mask, where):
    """Log-probabilities of tokens, 0 where ``mask`` leaves one out, and the mask."""
    z, y = numerics.promote(logits), jnp.asarray(token_ids)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected (..., T, V)")
    if y.shape != z.shape[:-1]:
        raise ValueError(f"token_ids has shape {y.shape}, expected {z.shape[:-1]}")
    kept = numerics.kept(mask, y.shape)
    if mask is not None:  # a logit that is left out may be anything
        z, y = jnp.where(kept[..., None], z, 0), jnp.where(kept, y, 0)
    return jnp.where(kept, token_log_prob(z, y, where=where), 0), kept
