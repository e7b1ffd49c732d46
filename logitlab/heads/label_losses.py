"""Losses that need of a head's logits no more than what they say of the label."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads.statistics import linear_label_stats

__all__ = ["fused_linear_cross_entropy", "linear_label_loss", "sequence_log_probs"]


def fused_linear_cross_entropy(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: ArrayLike = 0.0,
    smoothing: str = "all",
    z_loss: ArrayLike = 0.0,
    class_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    **options,
) -> jax.Array:
    r"""Cross-entropy of a linear head, some columns of the vocabulary at a time.

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
      where: bool, [V] or [..., V], the classes that take part.
      **options: ``bias``, ``transform``, ``transposed``, ``vocab_chunk``, ``axis_name``
        and ``batch_axes``, as in :func:`linear_label_stats`.

    Returns:
      The loss in nats, float32 (float64 for float64 input), one for each token.

    Raises:
      ValueError: ``smoothing`` is neither of the two, or ``label_smoothing`` is known
        to be outside [0, 1]; and what :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    Source: the z-loss, Chowdhery et al. 2022, arXiv:2204.02311; without logits, Wijmans
      et al. 2024, arXiv:2411.09009.

    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> fused_linear_cross_entropy(hidden, kernel, jnp.arange(6))[0]
    Array(2.3025851, dtype=float32)
    """
    if smoothing not in ("all", "others"):
        raise ValueError(f"smoothing is {smoothing!r}, expected 'all' or 'others'")
    eps = jnp.asarray(label_smoothing)
    if numerics.is_known(eps) and not 0 <= eps <= 1:
        raise ValueError(f"label_smoothing is {eps}, expected a number in [0, 1]")
    stats = linear_label_stats(
        hidden, kernel, labels, where=where, class_weight=class_weight, **options
    )
    loss = -stats.label_weight * stats.log_prob
    if not (numerics.is_known(eps) and eps == 0):
        shared = eps / jnp.maximum(stats.classes, 1)
        if smoothing == "others":  # V / (V - 1) times as much, of which y gets its part
            shared = eps / jnp.maximum(stats.classes - 1, 1)
        kept = 1 - shared * stats.classes
        loss = jnp.where(kept != 0, kept * loss, 0) + shared * stats.nll_sum
    if not (numerics.is_known(jnp.asarray(z_loss)) and z_loss == 0):
        loss = loss + z_loss * jnp.square(stats.logsumexp)
    return loss


def linear_label_loss(
    loss: Callable,
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    **options,
) -> jax.Array:
    r"""Any loss of the label's probability alone, some columns of a head at a time.

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
      **options: ``bias``, ``where``, ``transform``, ``transposed``, ``vocab_chunk``,
        ``axis_name`` and ``batch_axes``, as in :func:`linear_label_stats`.

    Returns:
      One loss for each token.

    Raises:
      ValueError: a loss that sees more than the label's probability, as far as a trial
        on five classes shows; and what :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    Source: any such loss weighs the gradient of cross-entropy, as in Lin et al. 2017,
      arXiv:1708.02002, and Mao et al. 2023, arXiv:2304.07288.

    >>> from logitlab import losses
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.zeros((4, 10))
    >>> linear_label_loss(losses.focal_loss, hidden, kernel, jnp.arange(6)).shape
    (6,)
    """
    _check_label_only(loss)
    stats = linear_label_stats(hidden, kernel, labels, **options)
    first = jnp.zeros(stats.log_prob.shape, jnp.int32)
    return loss(_two_classes(stats.log_prob), first)


def sequence_log_probs(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    average: bool = False,
    **options,
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
      **options: ``bias``, ``where``, ``transform``, ``transposed``, ``vocab_chunk``,
        ``axis_name`` and ``batch_axes``, as in :func:`linear_label_stats`.

    Returns:
      One number for each sequence, in nats, float32 (float64 for float64 input).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: ``mask`` has not the shape of ``labels``; and what
        :func:`linear_label_stats` raises.

    Numerics: as :func:`linear_label_stats`. Reverse mode only, of higher orders too.

    >>> hidden, kernel = jnp.ones((2, 3, 4)), jnp.zeros((4, 10))
    >>> sequence_log_probs(hidden, kernel, jnp.zeros((2, 3), int))
    Array([-6.9077554, -6.9077554], dtype=float32)
    """
    labels = jnp.asarray(labels)
    if not labels.ndim:
        raise ValueError("labels has shape (), expected (..., T)")
    kept = numerics.kept(mask, labels.shape)
    labels = jnp.where(kept, labels, 0)
    log_p = linear_label_stats(hidden, kernel, labels, **options).log_prob
    total = jnp.where(kept, log_p, 0).sum(-1)
    return total / jnp.maximum(kept.sum(-1), 1) if average else total


def _two_classes(log_p):
    """Logits of the label and of all others together, as exact as ``log_p``."""
    sure = log_p == 0  # nothing is left for the others
    safe = jnp.where(sure, -1, log_p)
    near = safe > -0.69
    left = jnp.where(
        near,
        jnp.log(-jnp.expm1(jnp.where(near, safe, -1))),
        jnp.log1p(-jnp.exp(jnp.where(near, -1, safe))),
    )
    return jnp.stack([log_p, jnp.where(sure, -jnp.inf, left)], -1)


def _check_label_only(loss):
    """Compares the loss on five classes with that on two, where values are known."""
    z = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    y = np.arange(8) % 5
    with jax.ensure_compile_time_eval():
        whole = loss(jnp.asarray(z), jnp.asarray(y))
        two = _two_classes(-numerics.label_nll(z, y))
        short = loss(two, jnp.zeros(8, jnp.int32))
    if getattr(whole, "shape", None) != (8,):
        raise ValueError(
            f"loss returned {jax.typeof(whole)} for 8 examples, expected one number "
            "for each"
        )
    if numerics.is_known(whole) and not np.allclose(whole, short, 1e-3, 1e-5):
        raise ValueError(
            "loss depends on more than the label's probability: on five classes it is "
            f"{whole[:2]}, on the label against all others {short[:2]}; give it to "
            "linear_loss"
        )
