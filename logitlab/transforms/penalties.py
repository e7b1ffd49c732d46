"""Processors that remember what was said: penalties, blocked n-grams, lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, hyper, per_row
from logitlab.transforms.decoding import Processor, check_ids, processor
from logitlab.transforms.suppression import suppress_logits, update_counts

__all__ = [
    "frequency_penalty",
    "min_length",
    "no_repeat_ngrams",
    "presence_penalty",
    "repetition_penalty",
    "suppress",
]


class Progress(NamedTuple):
    """How far each row is.

    Attributes:
      begun: bool [B], whether a call has brought the prompt.
      step: int32 [B], tokens since.
    """

    begun: jax.Array
    step: jax.Array


def begin_progress(batch: int) -> Progress:
    """Before the prompt."""
    return Progress(jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32))


def advance(progress: Progress, tokens: jax.Array) -> Progress:
    """After some more tokens [B, T]; those of the first call are the prompt."""
    new = jnp.sum(tokens >= 0, -1, dtype=jnp.int32)
    return Progress(
        jnp.ones_like(progress.begun), progress.step + jnp.where(progress.begun, new, 0)
    )


def fold_tokens(
    update: Callable[[Any, jax.Array], Any], state: Any, tokens: jax.Array
) -> Any:
    """State after tokens [B, T], one column after another."""
    if tokens.shape[1] == 1:
        return update(state, tokens[:, 0])
    return jax.lax.scan(lambda s, t: (update(s, t), None), state, tokens.T)[0]


def _counting(
    vocab_size: int, change: Callable[[jax.Array, jax.Array], jax.Array]
) -> Processor:
    """A processor of logits and the counts of all tokens so far."""
    check_count("vocab_size", vocab_size)

    def step(z, tokens, counts, key):
        if counts.shape != z.shape:
            raise ValueError(
                f"logits has shape {z.shape}, expected {counts.shape} for vocab_size "
                f"{vocab_size}"
            )
        counts = update_counts(counts, tokens)
        return change(z, counts), counts

    return processor(lambda batch: jnp.zeros((batch, vocab_size), jnp.int32), step)


def repetition_penalty(penalty: ArrayLike, *, vocab_size: int) -> Processor:
    r"""Makes what occurred, in the prompt too, less likely by a factor of its logit.

    .. math:: z_v / \theta \text{ if } z_v > 0, \quad z_v \theta \text{ otherwise}

    It depends on the offset of the logits; ``presence_penalty`` does not.

    Args:
      penalty: theta, positive, above 1 to repeat less; a number or one for each row.
      vocab_size: number of tokens.

    Raises:
      ValueError: ``penalty`` is not positive, or the logits have other tokens.

    Source: CTRL, Keskar et al. 2019, arXiv:1909.05858.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> less = transforms.repetition_penalty(2.0, vocab_size=3)
    >>> less.apply(jnp.float32([[4, 4, -4]]), jnp.array([[0, 2]]), less.init(1))[0]
    Array([[ 2.,  4., -8.]], dtype=float32)
    """
    check_range("penalty", penalty, lambda t: t > 0, "positive")

    def change(z, counts):
        theta = per_row("penalty", penalty, z)
        return jnp.where(counts > 0, jnp.where(z > 0, z / theta, z * theta), z)

    return _counting(vocab_size, change)


def presence_penalty(penalty: ArrayLike, *, vocab_size: int) -> Processor:
    r"""Subtracts a number from the logit of each token that occurred, the prompt's too.

    .. math:: z_v - \alpha \, [c_v > 0]

    Args:
      penalty: alpha, a number or one for each row.
      vocab_size: number of tokens.

    Raises:
      ValueError: ``penalty`` is of another batch, or the logits have other tokens.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> less = transforms.presence_penalty(1.0, vocab_size=2)
    >>> less.apply(jnp.float32([[4, 4]]), jnp.array([[0, 0]]), less.init(1))[0]
    Array([[3., 4.]], dtype=float32)
    """
    return _counting(
        vocab_size,
        lambda z, counts: jnp.where(counts > 0, z - per_row("penalty", penalty, z), z),
    )


def frequency_penalty(penalty: ArrayLike, *, vocab_size: int) -> Processor:
    r"""Subtracts a number from the logit of a token each time that it occurred.

    .. math:: z_v - \alpha \, c_v

    Args:
      penalty: alpha, a number or one for each row.
      vocab_size: number of tokens.

    Raises:
      ValueError: ``penalty`` is of another batch, or the logits have other tokens.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> less = transforms.frequency_penalty(1.0, vocab_size=2)
    >>> less.apply(jnp.float32([[4, 4]]), jnp.array([[0, 0]]), less.init(1))[0]
    Array([[2., 4.]], dtype=float32)
    """
    return _counting(
        vocab_size,
        lambda z, counts: jnp.where(
            counts > 0, z - per_row("penalty", penalty, z) * counts.astype(z.dtype), z
        ),
    )


def suppress(
    strength: ArrayLike = 7.5,
    top_k: int = 100,
    *,
    vocab_size: int,
    decay: ArrayLike = 1.0,
    counts: ArrayLike | None = None,
) -> Processor:
    r"""A bias against the tokens that were said most, in proportion to their counts.

    Use it before the temperature. See ``suppress_logits`` for the formula.

    Args:
      strength: bias of the most frequent token, at least 0.
      top_k: how many tokens are suppressed.
      vocab_size: number of tokens.
      decay: what counts are multiplied by at each call, in (0, 1].
      counts: [V], what was said before by anybody, from which every row begins.

    Raises:
      ValueError: an argument out of range, or logits or counts of other tokens.

    Source: Increasing Diversity While Maintaining Accuracy, Chung et al. 2023,
      arXiv:2306.04140.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> other = transforms.suppress(vocab_size=2)
    >>> other.apply(jnp.float32([[9, 9]]), jnp.array([[0]]), other.init(1))[0]
    Array([[1.5, 9. ]], dtype=float32)
    """
    check_count("vocab_size", vocab_size)
    check_count("top_k", top_k)
    check_range("strength", strength, lambda s: s >= 0, "at least 0")
    check_range("decay", decay, lambda d: (d > 0) & (d <= 1), "in (0, 1]")
    if counts is not None and np.shape(counts) != (vocab_size,):
        raise ValueError(
            f"counts has shape {np.shape(counts)}, expected ({vocab_size},)"
        )

    def init(batch):
        first = jnp.zeros(vocab_size) if counts is None else jnp.asarray(counts)
        return jnp.tile(first.astype(jnp.float32)[None], (batch, 1))

    def step(z, tokens, counts, key):
        counts = update_counts(counts, tokens, decay=decay)
        return suppress_logits(z, counts, strength=strength, top_k=top_k), counts

    return processor(init, step)


def no_repeat_ngrams(n: int, *, max_length: int) -> Processor:
    """Hides every token that would complete an n-gram for the second time.

    Args:
      n: length of the n-grams; 1 forbids to say any token twice.
      max_length: how many of the last tokens are looked at, the prompt's included.

    Raises:
      TypeError: one is no whole number.
      ValueError: ``n`` is below 1 or above ``max_length``.

    Source: Paulus et al. 2017, arXiv:1705.04304.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> no = transforms.no_repeat_ngrams(2, max_length=8)
    >>> no.apply(jnp.zeros((1, 3)), jnp.array([[0, 1, 0]]), no.init(1))[0]
    Array([[  0., -inf,   0.]], dtype=float32)
    """
    check_count("n", n)
    check_count("max_length", max_length, n)

    def push(past, token):
        longer = jnp.concatenate([past[:, 1:], token[:, None]], 1)
        return jnp.where(token[:, None] >= 0, longer, past)

    def step(z, tokens, past, key):
        past = fold_tokens(push, past, tokens)
        # Places whose n - 1 predecessors are the last n - 1 tokens.
        count = max_length - n + 1
        same = past[:, n - 1 :] >= 0
        for i in range(n - 1):
            last = past[:, max_length - n + 1 + i, None]
            same &= (past[:, i : i + count] == last) & (last >= 0)
        ids = jnp.where(same, past[:, n - 1 :], z.shape[1])
        mark = jax.vmap(lambda row, i: row.at[i].set(True, mode="drop"))
        return jnp.where(mark(jnp.zeros_like(z, bool), ids), -jnp.inf, z), past

    return processor(lambda batch: jnp.full((batch, max_length), -1, jnp.int32), step)


def min_length(length: ArrayLike, end: ArrayLike) -> Processor:
    """Hides the end of the text until so many tokens were generated.

    Args:
      length: tokens that come before the end at least, not counting those of the
        first call, which are the prompt; a number or one for each row.
      end: id, or ids, of the tokens that end a text.

    Raises:
      ValueError: ``length`` is negative, or an id is out of range.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> long = transforms.min_length(5, end=0)
    >>> long.apply(jnp.zeros((1, 2)), jnp.array([[1, 1]]), long.init(1))[0]
    Array([[-inf,   0.]], dtype=float32)
    """
    check_range("length", length, lambda n: n >= 0, "at least 0")

    def step(z, tokens, progress, key):
        progress = advance(progress, tokens)
        ids = jnp.atleast_1d(numerics.wide_labels(end, "end"))
        check_ids("end", end, z.shape[1])
        marks = jnp.zeros((1, z.shape[1]), bool).at[0, ids].set(True, mode="drop")
        least = jnp.broadcast_to(hyper("length", length, jnp.float32), (len(z),))
        early = progress.step.astype(jnp.float32) < least
        return jnp.where(early[:, None] & marks, -jnp.inf, z), progress

    return processor(begin_progress, step)
