"""A style's n-grams: their counts, and logits that lean towards them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, hyper, per_row

__all__ = [
    "NgramPrior",
    "fit_ngram_prior",
    "ngram_counts",
    "ngram_log_probs",
    "ngram_prior_logits",
]


class NgramPrior(NamedTuple):
    """Counts of the n-grams of a text, as a tree of their prefixes.

    Entries of an order are sorted, so that those that go on from one prefix stand side
    by side; nothing has the size of the vocabulary but the first order.

    Attributes:
      tokens: for each order n, int32 [E_n]: the last token of each n-gram of the text;
        of the first order, all tokens.
      counts: for each order, float32 [E_n]: how often it occurs.
      children: for each order but the last, int32 [E_n + 1]: where the n-grams of the
        next order begin that go on from it.
      smoothing: float32 [], added to every count.
    """

    tokens: tuple[jax.Array, ...]
    counts: tuple[jax.Array, ...]
    children: tuple[jax.Array, ...]
    smoothing: jax.Array


def fit_ngram_prior(
    tokens: ArrayLike | Sequence[ArrayLike],
    vocab_size: int,
    *,
    order: int = 3,
    smoothing: ArrayLike = 0.1,
) -> NgramPrior:
    r"""Counts the n-grams of a text, of orders 1 to ``order``.

    Use it once for each style; memory grows with the distinct n-grams of the text, not
    with a power of the vocabulary. It runs on the host.

    .. math:: p_n(v \mid c) = \frac{\#(c v) + \delta}{\#(c) + \delta V}

    Args:
      tokens: int [N], the text, ids in ``[0, vocab_size)``; or several texts in a list,
        across whose ends no n-gram reaches.
      vocab_size: V, the number of tokens.
      order: the longest n-grams.
      smoothing: delta, positive.

    Returns:
      An ``NgramPrior``.

    Raises:
      TypeError: ``tokens`` are not integers.
      ValueError: there are none, an id is out of range, ``order`` is below 1 or
        ``smoothing`` not positive.

    Source: Limits of n-gram Style Control, 2026, arXiv:2601.16224; smoothing is
      inferred from its abstract.

    >>> from logitlab.transforms import fit_ngram_prior
    >>> prior = fit_ngram_prior([0, 1, 0, 1, 2], 3, order=2)
    >>> prior.counts[1]  # of 01, 10 and 12
    Array([2., 1., 1.], dtype=float32)
    """
    check_count("vocab_size", vocab_size)
    check_count("order", order)
    check_range("smoothing", smoothing, lambda s: s > 0, "positive")
    given: Any = tokens
    several = isinstance(given, list | tuple) and len(given) and np.ndim(given[0])
    texts = [_text(text, vocab_size) for text in (given if several else [given])]
    if not any(len(text) for text in texts):
        raise ValueError("tokens is empty, expected at least one token")
    counts = [np.bincount(np.concatenate(texts), minlength=vocab_size)]
    last, children = [np.arange(vocab_size)], []
    # The place of the prefix that ends at each token, in the order below.
    places = [text.astype(np.int64) for text in texts]
    for _ in range(1, order):
        prefixes = np.concatenate([p[:-1] for p in places])
        following = np.concatenate(
            [t[len(t) - len(p) + 1 :] for t, p in _both(texts, places)]
        )
        keys = prefixes * vocab_size + following
        unique, where, found = np.unique(keys, return_inverse=True, return_counts=True)
        children.append(
            np.searchsorted(unique // vocab_size, np.arange(len(last[-1]) + 1))
        )
        last.append(unique % vocab_size)
        counts.append(found)
        ends = np.cumsum([max(len(p) - 1, 0) for p in places])[:-1]
        places = np.split(where.reshape(-1), ends)
    return NgramPrior(
        tuple(jnp.asarray(a, jnp.int32) for a in last),
        tuple(jnp.asarray(a, jnp.float32) for a in counts),
        tuple(jnp.asarray(a, jnp.int32) for a in children),
        jnp.asarray(smoothing, jnp.float32),
    )


def _both(texts, places):
    return zip(texts, places, strict=True)


def _text(tokens, vocab_size):
    text = np.asarray(tokens)
    if text.size == 0:
        return np.zeros(0, np.int64)
    if not np.issubdtype(text.dtype, np.integer):
        raise TypeError(f"tokens has dtype {text.dtype}, expected integers")
    if text.ndim != 1:
        raise ValueError(f"tokens has shape {text.shape}, expected [N]")
    if text.min() < 0 or text.max() >= vocab_size:
        raise ValueError(
            f"tokens reach from {text.min()} to {text.max()}, expected ids in [0, "
            f"{vocab_size})"
        )
    return text.astype(np.int64)


def ngram_counts(prior: NgramPrior, context: ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""How often each token followed the end of a context, for each order.

    Use it for a smoothing of your own; ``ngram_log_probs`` smooths by a constant.

    Shapes: context [..., N] -> [..., O, V], [..., O]

    Args:
      prior: of ``fit_ngram_prior``, of order O.
      context: ints, of which the last O - 1 count, oldest first; a negative one stands
        for no token, as before the beginning of a text.

    Returns:
      Counts, float32, and for each order whether its context occurs in the text, which
      for the first order, without a context, is always so.

    Raises:
      TypeError: ``context`` is not integer.
      ValueError: ``context`` is shorter than O - 1, or holds a token of V or more
        (under ``jit``, where values are unknown, it counts as never seen).

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import fit_ngram_prior, ngram_counts
    >>> prior = fit_ngram_prior([0, 1, 0, 1, 2], 3, order=2)
    >>> ngram_counts(prior, jnp.array([1]))[0]
    Array([[2., 2., 1.],
           [1., 0., 1.]], dtype=float32)
    """
    classes, order = prior.tokens[0].shape[0], len(prior.tokens)
    context = numerics.wide_labels(context, "context")
    if context.ndim == 0 or context.shape[-1] < order - 1:
        raise ValueError(
            f"context has shape {context.shape}, expected [..., {order - 1}] or more "
            f"for n-grams up to {order}"
        )
    if numerics.is_concrete(context) and (np.asarray(context) >= classes).any():
        raise ValueError(
            f"context reaches {np.max(context)}, expected ids below {classes}"
        )
    always = (context == context).all(-1)  # laid out as the rows are
    counts = [jnp.where(always[..., None], prior.counts[0], 0)]
    matched = [always]
    for n in range(2, order + 1):
        # Down the tree, from the first token of the context to the last.
        place = context[..., context.shape[-1] - n + 1]
        there = (place >= 0) & (place < classes)
        for k in range(1, n - 1):
            place, there = _child(
                prior, k, place, there, context[..., context.shape[-1] - n + 1 + k]
            )
        found, some = _spread(prior, n - 1, place, there, classes)
        counts.append(found)
        matched.append(some)
    return jnp.stack(counts, -2), jnp.stack(matched, -1)


def _range(prior, level, place, there):
    """Where the entries of the next order begin and end that go on from a place."""
    children = prior.children[level - 1]
    at = jnp.where(there, place, 0)
    low, high = numerics.look_up(children, at), numerics.look_up(children, at + 1)
    return low, jnp.where(there, high, low)


def _child(prior, level, place, there, token):
    """The place in the next order of a place and a token, by bisection."""
    tokens = prior.tokens[level]
    low, end = _range(prior, level, place, there)
    if tokens.shape[0] == 0:  # of a text that is too short
        return low, low < end

    def step(_, ends):
        low, high = ends
        middle = (low + high) // 2
        before = numerics.look_up(tokens, middle) < token
        before &= low < high
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    low, _ = jax.lax.fori_loop(0, int(tokens.shape[0]).bit_length(), step, (low, end))
    at = jnp.minimum(low, tokens.shape[0] - 1)
    return at, (low < end) & (numerics.look_up(tokens, at) == token)


def _spread(prior, level, place, there, classes):
    """Counts [..., V] of what goes on from a place, and whether anything does."""
    tokens, counts = prior.tokens[level], prior.counts[level]
    low, high = _range(prior, level, place, there)
    if tokens.shape[0] == 0:
        return jnp.zeros((*low.shape, classes), jnp.float32), low < high
    every = jnp.arange(classes, dtype=jnp.int32).reshape((1,) * low.ndim + (-1,))
    # Token by token: where it would stand among the sorted ones. A gather for each
    # halving, but no more than log2 of the longest row of successors.
    low, high = (
        jnp.broadcast_to(a[..., None], (*low.shape, classes)) for a in (low, high)
    )

    def step(_, ends):
        low, high = ends
        middle = (low + high) // 2
        before = (numerics.look_up(tokens, middle) < every) & (low < high)
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    steps = min(int(tokens.shape[0]), classes).bit_length()
    place, _ = jax.lax.fori_loop(0, steps, step, (low, high))
    at = jnp.minimum(place, tokens.shape[0] - 1)
    hit = (place < high) & (numerics.look_up(tokens, at) == every)
    return jnp.where(hit, numerics.look_up(counts, at), 0), low[..., 0] < high[..., 0]


def ngram_log_probs(
    prior: NgramPrior, context: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""Log-probabilities of the next token under the n-grams of a text, by order.

    Use it before ``ngram_prior_logits``.

    .. math:: \log p_n(v \mid c) = \log \frac{\#(c v) + \delta}{\#(c) + \delta V}

    Shapes: context [..., N] -> [..., O, V], [..., O]

    Args:
      prior: of ``fit_ngram_prior``, of order O.
      context: ints, see ``ngram_counts``.

    Returns:
      float32 log-probabilities, uniform where the context never occurred, and for each
      order whether it did.

    Raises:
      TypeError: ``context`` is not integer.
      ValueError: see ``ngram_counts``.

    Source: Limits of n-gram Style Control, 2026, arXiv:2601.16224; smoothing is
      inferred from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import fit_ngram_prior, ngram_log_probs
    >>> prior = fit_ngram_prior([0, 1, 0, 1, 2], 3, order=2)
    >>> jnp.exp(ngram_log_probs(prior, jnp.array([0]))[0][1]).round(4)
    Array([0.0435, 0.913 , 0.0435], dtype=float32)
    """
    counts, matched = ngram_counts(prior, context)
    smoothed = counts + prior.smoothing
    total = jnp.sum(smoothed, -1, keepdims=True)
    return jnp.log(smoothed) - jnp.log(total), matched


def ngram_prior_logits(
    logits: ArrayLike,
    ngram_log_probs: ArrayLike,
    matched: ArrayLike,
    *,
    strength: ArrayLike,
    weights: ArrayLike | Sequence[float] = (0.1, 0.3, 0.6),
    mode: str = "sum",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logits that lean towards the n-grams of a style.

    Use it to write in the style of a text without tuning; a strength of 0.1 is much,
    and at 1 the n-grams take over. Orders whose context occurs in the text take part:

    .. math:: z_v + \lambda \sum_{n \in M} \frac{w_n}{\sum_{m \in M} w_m}
        \log p_n(v \mid c_{n-1})

    Shapes: logits [..., C], ngram_log_probs [..., O, C], matched [..., O], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      ngram_log_probs: of ``ngram_log_probs``, classes last whatever the axis.
      matched: bool, the orders that take part; without any, and at strength 0, the
        logits come back bit by bit.
      strength: lambda, at least 0, a number or one for each row.
      weights: w, one number for each order, at least 0.
      mode: ``"sum"`` of log-probabilities, or ``"mixture"``: the logarithm of the
        weighted mean of probabilities.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits), ``-inf`` at hidden classes.

    Raises:
      TypeError: an array is not floating point, or ``matched`` not bool.
      ValueError: shapes that disagree, as of another batch or vocabulary; ``strength``
        or ``weights`` negative, not one weight for each order, or an unknown mode.

    Source: Limits of n-gram Style Control, 2026, arXiv:2601.16224; the weights and
      which mode the abstract means are inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import ngram_prior_logits
    >>> log_p = jnp.log(jnp.float32([[0.5, 0.5], [0.9, 0.1]]))
    >>> matched = jnp.array([True, False])
    >>> z = jnp.float32([1, 0])
    >>> ngram_prior_logits(z, log_p, matched, strength=1.0, weights=(1, 3)).round(4)
    Array([ 0.3069, -0.6931], dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if mode not in ("sum", "mixture"):
        raise ValueError(f"mode is {mode!r}, expected 'sum' or 'mixture'")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    strength = per_row("strength", strength, z, lambda s: s >= 0, "at least 0")
    log_p = numerics.promote_to_float32(ngram_log_probs, "ngram_log_probs")
    log_p = log_p.astype(z.dtype)
    if log_p.ndim != z.ndim + 1 or (
        (*log_p.shape[:-2], log_p.shape[-1]) != z.shape or log_p.shape[-2] == 0
    ):
        raise ValueError(
            f"ngram_log_probs has shape {log_p.shape}, expected "
            f"{(*z.shape[:-1], 'orders', z.shape[-1])}"
        )
    seen = numerics.check_mask(matched, log_p.shape[:-1])
    if np.shape(weights) != (log_p.shape[-2],):
        raise ValueError(
            f"weights has shape {np.shape(weights)}, expected ({log_p.shape[-2]},), "
            "one for each order"
        )
    given: Any = weights
    w = hyper("weights", given, z.dtype, lambda w: w >= 0, "at least 0")
    w = jnp.where(
        seen, jnp.broadcast_to(w.reshape((1,) * (seen.ndim - 1) + (-1,)), seen.shape), 0
    )
    total = jnp.sum(w, -1, keepdims=True)
    some = total > 0
    w = (w / jnp.where(some, total, 1))[..., None]
    log_p = jnp.where(w > 0, log_p, 0)
    if mode == "sum":
        prior = jnp.sum(w * log_p, -2)
    else:
        log_w = jnp.where(w > 0, jnp.log(jnp.where(w > 0, w, 1)), -jnp.inf)
        prior = numerics.logsumexp(jnp.moveaxis(log_w + log_p, -2, -1))
    on = some & (strength > 0)
    moved = z + jnp.where(on, strength, 0) * jnp.where(on, prior, 0)
    return jnp.moveaxis(jnp.where(on & (z > -jnp.inf), moved, z), -1, axis)
