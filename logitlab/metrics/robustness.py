"""Accuracy under several attacks at once."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.metrics.mean import Mean, mean_of

__all__ = ["union_accuracy"]


def union_accuracy(broken: ArrayLike, *, mask: ArrayLike | None = None) -> Mean:
    r"""Share of the examples that none of several attacks broke.

    The number to report for robustness against several norms: it is at most that of
    each attack alone.

    .. math:: \frac1B \sum_i \prod_k (1 - b_{ki})

    Shapes: broken [K, B], mask [B] -> ([], [])

    Args:
      broken: bool, one row for each attack: ``attacks.Attack.broken``, which is true of
        what was wrong before as well.
      mask: bool, the examples that count.

    Returns:
      A :class:`Mean`, which adds up over batches.

    Raises:
      TypeError: ``broken`` or ``mask`` is not bool.
      ValueError: ``broken`` has no two axes, or the shapes differ.

    Source: union accuracy, RAMP, arXiv:2402.06827.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import union_accuracy
    >>> float(union_accuracy(jnp.array([[True, False, False], [False, True, False]])))
    0.3333333432674408
    """
    broken = jnp.asarray(broken)
    if broken.dtype != bool:
        raise TypeError(f"broken has dtype {broken.dtype}, expected bool")
    if broken.ndim != 2:
        raise ValueError(f"broken has shape {broken.shape}, expected [K, B]")
    return mean_of(~broken.any(0), mask)
