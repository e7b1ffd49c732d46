"""Losses of a linear head that depend only on the label's statistics."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._operands import OF_TOKENS, takes_no_mask
from logitlab.heads.statistics import linear_label_stats
from logitlab.numerics.arguments import check_range

__all__ = ["fused_linear_cross_entropy", "linear_label_loss", "sequence_log_prob"]


@takes_no_mask(OF_TOKENS)
def fused_linear_cross_entropy(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: ArrayLike = 0.0,
    smoothing: str = "all",
    z_loss: ArrayLike = 0.0,
    class_weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array:
    r"""Cross-entropy of a linear head, evaluated in blocks of the vocabulary.

    Use it to train a language model without the array of all logits.

    .. math:: \ell = -(1 - \epsilon) w_y \log p_y
        - \frac{\epsilon}{V} \sum_c w_c \log p_c
        + \lambda \big(\log \sum_c e^{z_c}\big)^2

    Shapes: hidden [..., D], kernel [D, V], labels [...] -> [...]

    Args:
      hidden: features.
      kernel: weights of the head.
      labels: ints in ``[0, V)``.
      label_smoothing: the mass, epsilon, that is spread over the visible classes.
      smoothing: ``all`` classes get a share, or only the ``others`` than the label.
      z_loss: weight, lambda, of the squared log-partition; 1e-4 is usual.
      class_weight: [V], weights of the classes, without gradient.
      bias: [V], or none.
      where: bool, [V] or [..., V], the classes that take part.
      transform: elementwise, logits -> logits, as in :func:`linear_label_stats`.
      transposed: the kernel is [V, D].
      vocab_chunk: columns at a time, as in :func:`linear_label_stats`.
      axis_name: mesh axes of the vocabulary, the same.
      batch_axes: mesh axes of the first axis of ``hidden``, the same.

    Returns:
      The loss in nats, float32 (float64 for float64 input), one for each token.

    Raises:
      ValueError: ``smoothing`` is neither of the two, or ``label_smoothing`` is known
        to be outside [0, 1]; and what :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    Source: the z-loss, Chowdhery et al. 2022, arXiv:2204.02311; without logits, Wijmans
      et al. 2024, arXiv:2411.09009.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.heads import fused_linear_cross_entropy
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> jax.jit(fused_linear_cross_entropy)(hidden, kernel, jnp.arange(6))[0]
    Array(2.3025851, dtype=float32)
    """
    if smoothing not in ("all", "others"):
        raise ValueError(f"smoothing is {smoothing!r}, expected 'all' or 'others'")
    check_range(
        "label_smoothing",
        label_smoothing,
        lambda e: (e >= 0) & (e <= 1),
        "a number in [0, 1]",
    )
    stats = linear_label_stats(
        hidden,
        kernel,
        labels,
        class_weight=class_weight,
        bias=bias,
        where=where,
        transform=transform,
        transposed=transposed,
        vocab_chunk=vocab_chunk,
        axis_name=axis_name,
        batch_axes=batch_axes,
    )
    eps, scale = (
        jnp.asarray(a, stats.log_prob.dtype) for a in (label_smoothing, z_loss)
    )
    loss = _times(stats.label_weight, -stats.log_prob)
    if not (numerics.is_concrete(eps) and eps == 0):
        shared = eps / jnp.maximum(stats.classes, 1)
        if smoothing == "others":  # V / (V - 1) times as much, of which y gets its part
            shared = eps / jnp.maximum(stats.classes - 1, 1)
        kept = 1 - shared * stats.classes
        loss = _times(kept, loss) + _times(shared, stats.nll_sum)
    if not (numerics.is_concrete(scale) and scale == 0):
        total = jnp.where(stats.classes > 0, stats.logsumexp, 0)
        loss = loss + _times(scale, jnp.square(total))
    return loss


@takes_no_mask(OF_TOKENS)
def linear_label_loss(
    loss: Callable,
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array:
    r"""Any loss of the label's probability, for a linear head, in blocks.

    Use it for focal, comp-sum and other losses that need no second class.

    .. math:: \ell = f(p_y), \quad p = \mathrm{softmax}(t(h W + b))

    The same numbers as ``linear_loss(loss, hidden, kernel, labels)`` for focal,
    comp-sum and the like, in less memory: the loss gets two classes for the whole
    vocabulary, the label and all others, whose logits are :math:`\log p_y` and
    :math:`\log(1 - p_y)`.

    Shapes: hidden [..., D], kernel [D, V], labels [...] -> [...]

    Args:
      loss: (logits, labels) -> one number for each example, of any number of examples
        and classes. Values that it closes over get their gradients.
      hidden: features.
      kernel: weights of the head.
      labels: ints in ``[0, V)``.
      bias: [V], or none.
      where: bool, [V] or [..., V], the classes that take part.
      transform: elementwise, logits -> logits, as in :func:`linear_label_stats`.
      transposed: the kernel is [V, D].
      vocab_chunk: columns at a time, as in :func:`linear_label_stats`.
      axis_name: mesh axes of the vocabulary, the same.
      batch_axes: mesh axes of the first axis of ``hidden``, the same.

    Returns:
      One loss for each token.

    Raises:
      ValueError: a loss that sees more than the label's probability, as far as a trial
        on five classes shows; and what :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    Source: any such loss weighs the gradient of cross-entropy, as in Lin et al. 2017,
      arXiv:1708.02002, and Mao et al. 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import linear_label_loss
    >>> from logitlab import losses
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> linear_label_loss(losses.focal_loss, hidden, kernel, jnp.arange(6)).shape
    (6,)
    """
    _check_label_only(loss)
    stats = linear_label_stats(
        hidden,
        kernel,
        labels,
        bias=bias,
        where=where,
        transform=transform,
        transposed=transposed,
        vocab_chunk=vocab_chunk,
        axis_name=axis_name,
        batch_axes=batch_axes,
    )
    first = jnp.zeros(stats.log_prob.shape, jnp.int32)
    return loss(_two_classes(stats.log_prob), first)


def sequence_log_prob(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    average: bool = False,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array:
    r"""Log-probability of each sequence of labels, for preference losses.

    .. math:: \sum_t m_t \log p_{t, y_t}, \quad \text{or that} / \sum_t m_t

    Shapes: hidden [..., T, D], kernel [D, V], labels [..., T] -> [...]

    Args:
      hidden: features of the tokens of sequences.
      kernel: weights of the head.
      labels: ints in ``[0, V)``; any integer where ``mask`` is False.
      mask: bool, [..., T], the tokens that count; by default all.
      average: by the number of tokens that count: a sequence without any gives 0.
      bias: [V], or none.
      where: bool, [V] or [..., V], the classes that take part.
      transform: elementwise, logits -> logits, as in :func:`linear_label_stats`.
      transposed: the kernel is [V, D].
      vocab_chunk: columns at a time, as in :func:`linear_label_stats`.
      axis_name: mesh axes of the vocabulary, the same.
      batch_axes: mesh axes of the first axis of ``hidden``, the same.

    Returns:
      One number for each sequence, in nats, float32 (float64 for float64 input).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: ``mask`` has not the shape of ``labels``; and what
        :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import sequence_log_prob
    >>> hidden, kernel = jnp.ones((2, 3, 4)), jnp.zeros((4, 10))
    >>> sequence_log_prob(hidden, kernel, jnp.zeros((2, 3), int))
    Array([-6.9077554, -6.9077554], dtype=float32)
    """
    labels = numerics.wide_labels(labels)
    if not labels.ndim:
        raise ValueError("labels has shape (), expected (..., T)")
    kept = numerics.check_mask(mask, labels.shape)
    labels = jnp.where(kept, labels, 0)
    log_p = linear_label_stats(
        hidden,
        kernel,
        labels,
        bias=bias,
        where=where,
        transform=transform,
        transposed=transposed,
        vocab_chunk=vocab_chunk,
        axis_name=axis_name,
        batch_axes=batch_axes,
    ).log_prob
    total = jnp.where(kept, log_p, 0).sum(-1)
    return total / jnp.maximum(kept.sum(-1), 1) if average else total


def _times(weight, value):
    """A product that is 0 where the weight is 0, even of an infinite loss."""
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0, value)


def _two_classes(log_p):
    """Two logits, of the label and of all other classes, as exact as ``log_p``."""
    sure = log_p == 0  # nothing is left for the others
    safe = jnp.where(sure, -1, log_p)
    left = numerics.log1mexp(safe)
    return jnp.stack([log_p, jnp.where(sure, -jnp.inf, left)], -1)


def _check_label_only(loss):
    """Raises if a concrete loss depends on more than the label's probability."""
    z = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    y = np.arange(8, dtype=np.int32) % 5
    like = jax.ShapeDtypeStruct(z.shape, z.dtype), jax.ShapeDtypeStruct((8,), y.dtype)
    result = jax.eval_shape(loss, *like)
    if getattr(result, "shape", None) != (8,):
        raise ValueError(
            f"loss returned {result} for 8 examples, expected one number for each"
        )
    if jax.closure_convert(loss, *like)[1]:
        return  # of values that are not known

    def trial():
        with jax.ensure_compile_time_eval():
            whole = loss(jnp.asarray(z), jnp.asarray(y))
            two = _two_classes(-numerics.label_nll(z, y))
            return whole, loss(two, jnp.zeros(8, jnp.int32))

    kept = []
    _sharding.run_trial(lambda: kept.extend(trial()))
    whole, short = kept
    if numerics.is_concrete(whole) and not np.allclose(whole, short, 1e-3, 1e-5):
        raise ValueError(
            "loss depends on more than the label's probability: on five classes it is "
            f"{whole[:2]}, on the label against all others {short[:2]}; give it to "
            "linear_loss"
        )
