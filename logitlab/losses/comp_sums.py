"""Cross-entropy and the losses that are a function of the label's probability."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy that never rounds to zero, one value per example.

    .. math:: \ell = \log(1 + \sum_{c \ne y} e^{z_c - z_y}), \quad
        \text{or } -\sum_c q_c \log p_c \text{ for a distribution } q

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis. A distribution is taken as it is: it may sum to less than 1, and
        gets its own gradient.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label out of range; under ``jit``, where
        values are unknown, such a label gives NaN, never another class's loss.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``logsumexp(z) - z[y]`` is all rounding error from 17 on.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> cross_entropy(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return _with_distribution(logits, labels, axis, where)
    return numerics.label_nll(logits, labels, axis=axis, where=where)


def _with_distribution(logits, labels, axis, where):
    q = numerics.promote(labels, "labels")
    if q.shape != logits.shape:
        raise ValueError(
            f"labels has shape {q.shape}, expected {logits.shape} for a distribution "
            "over classes"
        )
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    return _cross_entropy(z, jnp.moveaxis(q, axis, -1).astype(z.dtype))


# `-sum(q * log_p)` and its derivative, written out: it costs one array less, and a
# class without mass is free to be hidden.
@jax.custom_jvp
def _cross_entropy(z, q):
    log_p = numerics.log_softmax(z)
    cost = jnp.sum(jnp.where(q == 0, 0, q * -log_p), -1)
    return jnp.where(jnp.max(z, -1) == -jnp.inf, 0, cost)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
    (z, q), (dz, dq) = primals, tangents
    log_p = numerics.log_softmax(z)
    empty = jnp.max(z, -1, keepdims=True) == -jnp.inf
    mass = jnp.where(empty, 0, jnp.sum(q, -1, keepdims=True))
    # The slopes of a row add up to 0. That of a class with most of the probability
    # follows from the others: a difference of two numbers near 1 would lose it.
    lead = log_p > -0.69
    slope = jnp.where(lead, 0, numerics.softmax(z) * mass - q)
    others = jnp.where(empty, 0, jnp.sum(slope, -1, keepdims=True))
    slope = jnp.where(lead, -others, slope)
    hidden, lowest = z == -jnp.inf, jnp.finfo(z.dtype).min  # which times 0 is 0
    log_p = jnp.where(hidden, 0, jnp.maximum(log_p, lowest))
    change = slope * jnp.where(hidden, 0, dz) - log_p * dq
    return _cross_entropy(z, q), jnp.sum(change, -1)
