"""From the logits of tokens to log-probabilities of completions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import (
    check_range,
    log_ratio,
    logps_like,
    positive,
    weighted,
)

__all__ = [
    "implicit_reward",
    "ld_sequence_log_prob",
    "sequence_log_prob",
    "mean_token_nll",
    "shift_for_next_token",
    "sparse_sequence_log_prob",
    "token_log_prob",
    "wpo_weights",
]


def shift_for_next_token(
    logits: ArrayLike, token_ids: ArrayLike, mask: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Aligns logits with the next token: position t scores token t + 1.

    Shapes: logits [..., T, V], token_ids [..., T], mask [..., T]
      -> [..., T - 1, V], [..., T - 1], [..., T - 1]

    Args:
      logits: scores of a causal model at each position.
      token_ids: the tokens at each position.
      mask: bool, the tokens of the completion, the end of sequence among them. The
        first token, which nothing predicts, is never one of them.

    Returns:
      All logits but the last, and all tokens, as int32, and marks but the first.

    Raises:
      TypeError: ``token_ids`` is not integer or ``mask`` is not bool.
      ValueError: the shapes disagree.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import shift_for_next_token
    >>> logits, ids = jnp.zeros((2, 5, 7)), jnp.zeros((2, 5), int)
    >>> [a.shape for a in shift_for_next_token(logits, ids, ids == 0)]
    [(2, 4, 7), (2, 4), (2, 4)]
    """
    z, y = jnp.asarray(logits), numerics.wide_labels(token_ids, "token_ids")
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected (..., T, V)")
    if y.shape != z.shape[:-1]:
        raise ValueError(f"token_ids has shape {y.shape}, expected {z.shape[:-1]}")
    mask = numerics.check_mask(mask, y.shape)
    return z[..., :-1, :], y[..., 1:], mask[..., 1:]


def token_log_prob(
    logits: ArrayLike, token_ids: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Log-probability of each token, as exact as ``cross_entropy``.

    Shapes: logits [..., V], token_ids [...], where [..., V] -> [...]

    Args:
      logits: scores, already beside the tokens that they predict.
      token_ids: ints in ``[0, V)``, or negative where there is no token.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      Nats, at most 0, float32 (float64 for float64 logits); NaN without a token.

    Raises:
      ValueError: what :func:`logitlab.numerics.label_nll` raises; it calls the ids
        labels.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import token_log_prob
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

    The same numbers as ``heads.sequence_log_prob``, which needs no logits.

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
      One number for each sequence, in nats, float32 (float64 for float64 logits); NaN
      where a token that counts is negative.

    Raises:
      TypeError: ``token_ids`` is not integer or ``mask`` is not bool.
      ValueError: the shapes disagree, or a token that counts is V or more (NaN under
        ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import sequence_log_prob
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
    r"""Length-desensitized log-probability: excess tokens are down-weighted.

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
      alpha: weight of the tokens beyond it, in [0, 1]; 1 is the sum of all, 0 leaves
        them out.
      mask: bool, the tokens that count; by default all.
      where: bool, the tokens of the vocabulary that take part.

    Returns:
      One number for each sequence, in nats, float32 (float64 for float64 logits); NaN
      where a token that counts is negative.

    Raises:
      TypeError: ``token_ids`` is not integer or ``mask`` is not bool.
      ValueError: the shapes disagree, ``alpha`` is outside [0, 1], or a token that
        counts is V or more (NaN under ``jit``).

    Numerics: as :func:`sequence_log_prob`.

    Source: LD-DPO, Liu et al. 2024, arXiv:2409.06411.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import ld_sequence_log_prob
    >>> logits, ids = jnp.zeros((2, 3, 10)), jnp.zeros((2, 3), int)
    >>> ld_sequence_log_prob(logits, ids, jnp.array([3, 1]), alpha=0.5)
    Array([-6.9077554, -4.6051702], dtype=float32)
    """
    check_range("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")
    log_p, kept = _kept_log_probs(logits, token_ids, mask, where)
    shared = jnp.asarray(shared_lengths)
    if shared.shape != log_p.shape[:-1]:
        raise ValueError(
            f"shared_lengths has shape {shared.shape}, expected {log_p.shape[:-1]}"
        )
    beyond = jnp.cumsum(kept, -1) > shared[..., None]
    return jnp.sum(jnp.where(beyond, weighted(alpha, log_p), log_p), -1)


def wpo_weights(
    logits: ArrayLike,
    token_ids: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""WPO's weight of a sequence: how likely the policy is to write it.

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
      TypeError: ``token_ids`` is not integer or ``mask`` is not bool.
      ValueError: the shapes disagree, or a token that counts is V or more (NaN under
        ``jit``).

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: WPO, Zhou et al. 2024, arXiv:2406.11827.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import wpo_weights
    >>> wpo_weights(jnp.zeros((2, 3, 10)), jnp.zeros((2, 3), int))
    Array([1., 1.], dtype=float32)
    """
    z = jax.lax.stop_gradient(numerics.promote_to_float32(logits))
    log_p, kept = _kept_log_probs(z, token_ids, mask, where)
    own = numerics.logsumexp(2 * numerics.log_softmax(z, where=where))
    aligned = jnp.where(kept, log_p - jnp.where(kept, own, 0), 0)
    return jnp.exp(aligned.sum(-1) / jnp.maximum(kept.sum(-1), 1))


def implicit_reward(
    logps: ArrayLike, ref_logps: ArrayLike, *, beta: ArrayLike = 0.1
) -> jax.Array:
    r"""Implicit reward of DPO: scaled log-ratio of policy to reference.

    Use it to log rewards and accuracies while you train.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import implicit_reward
    >>> implicit_reward(jnp.float32([-10]), jnp.float32([-12]), beta=0.5)
    Array([1.], dtype=float32)
    """
    positive(beta=beta)
    logps, ref = logps_like(logps=logps, ref_logps=ref_logps)
    return jax.lax.stop_gradient(log_ratio(logps, ref, beta))


def _kept_log_probs(logits, token_ids, mask, where):
    """Log-probabilities of tokens, 0 where ``mask`` leaves one out, and the mask."""
    z, y = (
        numerics.promote_to_float32(logits),
        numerics.wide_labels(token_ids, "token_ids"),
    )
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected (..., T, V)")
    if y.shape != z.shape[:-1]:
        raise ValueError(f"token_ids has shape {y.shape}, expected {z.shape[:-1]}")
    kept = numerics.check_mask(mask, y.shape)
    if mask is not None:  # a logit that is left out may be anything
        z, y = jnp.where(kept[..., None], z, 0), jnp.where(kept, y, 0)
    return jnp.where(kept, token_log_prob(z, y, where=where), 0), kept


def mean_token_nll(
    logits: ArrayLike, tokens: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Mean cross-entropy of a sequence's tokens.

    Use it when you score texts by their mean token loss (perplexity).

    .. math:: \ell = \frac{1}{|m|} \sum_t m_t (-\log p_{t, y_t})

    Shapes: logits [..., S, C], tokens [..., S], mask [..., S] -> [...]

    Args:
      logits: of the positions that predict the tokens.
      tokens: ints in ``[0, C)``, any where the mask is False.
      mask: bool, the tokens that count; a sequence without any costs 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``tokens`` not integer or ``mask``
        not bool.
      ValueError: wrong shapes, or a token that counts is out of range (NaN under
        ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: maximum likelihood of the tokens, as language models are trained.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import mean_token_nll
    >>> mean_token_nll(jnp.zeros((2, 4)), jnp.array([1, 3]))
    Array(1.3862944, dtype=float32)
    """
    y = numerics.wide_labels(tokens, "tokens")
    mask = numerics.check_mask(mask, y.shape)
    z = numerics.prepare_logits(logits)
    if y.shape != z.shape[:-1]:
        raise ValueError(f"tokens has shape {y.shape}, expected {z.shape[:-1]}")
    z = jnp.where(mask[..., None], z, 0)
    nll = numerics.label_nll(z, jnp.where(mask, y, 0))
    count = jnp.maximum(jnp.sum(mask, -1), 1).astype(nll.dtype)
    return jnp.sum(jnp.where(mask, nll, 0) / count[..., None], -1)


def sparse_sequence_log_prob(
    token_log_probs: ArrayLike,
    gate_logits: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Log-probability of a sequence over the tokens that a learned gate keeps.

    .. math:: \sum_t \sigma(u_t) \log \pi(y_t), \qquad \sum_t \sigma(u_t)

    Tokens that both answers of a pair share entangle their gradients; with a weight on
    the second sum, added to a preference loss of the first, only those that tell them
    apart stay. The form of the gate is inferred: the paper has a sparse mask learned
    with an L1 penalty.

    Shapes: token_log_probs [..., T], gate_logits [..., T], mask [..., T]
      -> [...], [...]

    Args:
      token_log_probs: of the tokens, as :func:`token_log_prob` gives them.
      gate_logits: u, learned: both get their gradients.
      mask: bool, the tokens that there are; by default all.

    Returns:
      The log-probability in nats and the penalty, float32 (float64 for float64); both
      0 for a sequence without tokens.

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ.

    Source: Yuan et al. 2024, arXiv:2410.13828.

    >>> import jax.numpy as jnp
    >>> from logitlab.sequences import sparse_sequence_log_prob
    >>> score, penalty = sparse_sequence_log_prob(jnp.float32([-1, -2]), jnp.zeros(2))
    >>> print(score, penalty)
    -1.5 1.0
    """
    log_p = numerics.promote_to_float32(token_log_probs, "token_log_probs")
    u = numerics.promote_to_float32(gate_logits, "gate_logits").astype(log_p.dtype)
    if u.shape != log_p.shape:
        raise ValueError(f"gate_logits has shape {u.shape}, expected {log_p.shape}")
    keep = numerics.check_mask(mask, log_p.shape)
    gate = jnp.where(keep, jax.nn.sigmoid(jnp.where(keep, u, 0)), 0)
    log_p = weighted(gate, jnp.where(keep, log_p, 0))
    return jnp.sum(log_p, -1), jnp.sum(gate, -1)
