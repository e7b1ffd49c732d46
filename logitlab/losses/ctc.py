"""Connectionist temporal classification: labels whose times are not known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["ctc_loss"]


def ctc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    blank: int = 0,
    axis: int = -1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Connectionist temporal classification, one value per sequence.

    Use it when speech or handwriting comes without an alignment to its text.

    For speech, handwriting and other sequences of frames of which only the sequence of
    labels is known, not when each of them occurs.

    .. math:: \ell = -\log \sum_{\pi \in \mathcal{B}^{-1}(y)}
        \prod_t \mathrm{softmax}(z_t)_{\pi_t}

    over the alignments :math:`\pi`, one class for each frame, that become the labels
    when repetitions are merged and then blanks are removed.

    Shapes: logits [..., T, C], labels [..., N], mask [..., T] -> [...]

    Args:
      logits: scores of the classes, the blank among them, for each frame. A frame in
        which every class is at ``-inf`` is one that ``mask`` leaves out.
      labels: ints in ``[0, C)`` other than ``blank``; negative ones are padding,
        wherever they stand.
      blank: the class that stands for no label.
      axis: the class axis of ``logits``; frames are the last of the other axes.
      mask: bool, the frames that there are, wherever they stand.

    Returns:
      Nats, float32 (float64 for float64 logits). ``inf`` with zero gradient where no
      alignment is possible, such as with fewer frames than labels; a sequence without
      frames and without labels costs 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer or ``mask``
        not bool.
      ValueError: wrong shapes, a label of C or more or one that is the blank (NaN under
        ``jit``), or ``blank`` is no class.

    Numerics: relative error below 1e-5, value and gradient, up to a few hundred frames.
      Where the labels have more than half of the probability, the loss is a sum of what
      all the *other* sequences have, so that it keeps its digits up to margins of 80:
      a log of the labels' probability rounds to 0 from 17 on.

    Source: Graves et al. 2006, Connectionist Temporal Classification, ICML.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ctc_loss
    >>> z = jnp.float32([[0, 40, 0], [40, 0, 0], [0, 0, 40]])
    >>> print(f"{ctc_loss(z, jnp.array([1, 2])):.4e}")
    1.6993e-17
    """
    z = numerics.prepare_logits(logits, axis=axis)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected frames and classes")
    symbols, length, known = _symbols(labels, blank, z)
    seen = numerics.check_mask(mask, z.shape[:-1]) & ~jnp.all(z == -jnp.inf, -1)
    log_p = numerics.log_softmax(jnp.where(seen[..., None], z, 0))
    emitted, strayed = _frames(log_p, symbols)
    alive, wrong = _forward(emitted, strayed, seen, symbols, length)
    near, possible = wrong < 0.5, alive > -jnp.inf
    far = jnp.where(possible, -jnp.where(possible, alive, 0), jnp.inf)
    loss = jnp.where(near, -jnp.log1p(-jnp.where(near, wrong, 0)), far)
    return jnp.where(known, loss, jnp.nan)


def _symbols(labels, blank, z):
    """Labels with a blank before, between and behind; -1 for padding, at the end."""
    classes = z.shape[-1]
    check_range(
        "blank", blank, lambda b: (b >= 0) & (b < classes), f"in [0, {classes})"
    )
    y = numerics.wide_labels(labels)
    if y.ndim != z.ndim - 1 or y.shape[:-1] != z.shape[:-2]:
        raise ValueError(
            f"labels has shape {y.shape}, expected {z.shape[:-2]} and an axis of labels"
        )
    bad = (y >= classes) | (y == blank)
    if numerics.is_concrete(bad) and bad.any():
        raise ValueError(
            f"labels outside [0, {classes}) or the blank, {blank}: {y[bad][:5]}"
        )
    padding = (y < 0) | bad
    _, y = jax.lax.sort((padding.astype(jnp.int32), y), num_keys=1, is_stable=True)
    length = jnp.sum(~padding, -1, keepdims=True, dtype=jnp.int32)
    at = jax.lax.broadcasted_iota(jnp.int32, y.shape, y.ndim - 1)
    y = jnp.where(at < length, y, -1)
    blanks = jnp.full_like(y[..., :1], blank, shape=(*y.shape[:-1], y.shape[-1] + 1))
    return _interleave(blanks, y), length, ~jnp.any(bad, -1)


def _interleave(even, odd):
    """``[e0, o0, e1, o1, ..., eN]``."""
    pairs = jnp.stack([even[..., :-1], odd], -1)
    return jnp.concatenate(
        [pairs.reshape(*odd.shape[:-1], 2 * odd.shape[-1]), even[..., -1:]], -1
    )


def _frames(log_p, symbols):
    """What each frame has for each state: its symbol, and all that leads nowhere.

    A state is a symbol that has been reached. The next frame may repeat it or go one or
    two symbols on; any other class makes another sequence of labels of it, for good.
    """
    named = jnp.concatenate([symbols[..., :1], symbols[..., 1::2]], -1)
    at = jnp.maximum(named, 0)[..., None, :]
    at = jnp.broadcast_to(at, (*log_p.shape[:-1], at.shape[-1]))
    scores = jax.vmap(numerics.take_label_logit, (None, -1), -1)(log_p, at)
    scores = jnp.where(named[..., None, :] < 0, -jnp.inf, scores)
    blank = jnp.broadcast_to(scores[..., :1], scores.shape)
    emitted = _interleave(blank, scores[..., 1:])
    # Probabilities of other classes are only ever added up, never taken from 1.
    classes = jax.lax.broadcasted_iota(
        jnp.int32, (*named.shape, log_p.shape[-1]), named.ndim
    )
    is_named = jnp.any(classes == named[..., None], -2)[..., None, :]
    unnamed = jnp.sum(jnp.where(is_named, 0, jnp.exp(log_p)), -1, keepdims=True)
    again = jnp.tril(named[..., None] == named[..., None, :], -1).any(-1)
    p = jnp.where(again[..., None, :], 0, jnp.exp(scores))
    steps = (symbols, *(_shifted(symbols, -n, -1) for n in (1, 2)))
    leads_on = sum(s[..., None] == named[..., None, :] for s in steps) > 0
    strayed = jnp.einsum(
        "...tu,...su->...ts",
        p,
        (~leads_on).astype(p.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
    return emitted, strayed + unnamed


def _forward(emitted, strayed, seen, symbols, length):
    """Log-probability of the labels, and the probability of everything else."""
    skips = (symbols != symbols[..., :1]) & (symbols != _shifted(symbols, 2, -1))
    state = jax.lax.broadcasted_iota(jnp.int32, symbols.shape, symbols.ndim - 1)
    like = jnp.max(emitted, -2, initial=0)  # for its place on a mesh
    start = jnp.where(state == 0, 0, -jnp.inf) + jnp.zeros_like(like)
    nothing = jnp.zeros_like(like[..., 0])

    def step(carry, frame):
        log_a, shift, wrong = carry
        log_e, stray, seen = frame
        stray = jnp.sum(jnp.exp(log_a + shift[..., None]) * stray, -1)
        two = jnp.where(skips, _shifted(log_a, 2, -jnp.inf), -jnp.inf)
        ways = jnp.stack([log_a, _shifted(log_a, 1, -jnp.inf), two], -1)
        new = numerics.logsumexp(ways) + log_e
        # Measured from the best state, so that long sequences lose no digits.
        top = jax.lax.stop_gradient(jnp.max(new, -1))
        top = jnp.where(top == -jnp.inf, 0, top)
        after = new - top[..., None], shift + top, wrong + stray
        kept = seen[..., None], seen, seen
        return jax.tree.map(jnp.where, kept, after, carry), None

    frames = jnp.moveaxis(emitted, -2, 0), jnp.moveaxis(strayed, -2, 0)
    frames = *frames, jnp.moveaxis(seen, -1, 0)
    (log_a, shift, wrong), _ = jax.lax.scan(step, (start, nothing, nothing), frames)
    final = (state == 2 * length) | (state == 2 * length - 1)
    unfinished = jnp.where(final, 0, jnp.exp(log_a + shift[..., None]))
    alive = numerics.logsumexp(jnp.where(final, log_a, -jnp.inf)) + shift
    return alive, wrong + jnp.sum(unfinished, -1)


def _shifted(x, by, fill):
    """The last axis moved by some places, to the left where ``by`` is negative."""
    config = [(0, 0, 0)] * (x.ndim - 1) + [(by, -by, 0)]
    return jax.lax.pad(x, jnp.asarray(fill, x.dtype), config)
