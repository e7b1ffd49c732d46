"""Conformalized quantile regression."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import decisions, numerics
from logitlab.numerics.arguments import check_range

__all__ = ["cqr_calibrate", "cqr_scores"]


def cqr_scores(lower: ArrayLike, upper: ArrayLike, target: ArrayLike) -> jax.Array:
    r"""Conformity scores of intervals: how far a target lies outside.

    Use it on held-out examples and hand the scores to ``cqr_calibrate``.

    .. math:: s = \max(q_{lo} - y, y - q_{hi})

    Shapes: lower [...], upper [...], target [...] -> [...]

    Source: Romano et al. 2019, arXiv:1905.03222.

    >>> from logitlab.estimators import cqr_scores
    >>> cqr_scores(0.0, 1.0, 1.5)
    Array(0.5, dtype=float32)
    """
    low, high = (
        numerics.promote_to_float32(lower, "lower"),
        numerics.promote_to_float32(upper, "upper"),
    )
    y = numerics.promote_to_float32(target, "target")
    if not low.shape == high.shape == y.shape:
        raise ValueError(
            f"lower, upper, target have shapes {low.shape}, {high.shape}, {y.shape}, "
            "expected equal ones"
        )
    return jnp.maximum(low - y, y - high)


def cqr_calibrate(scores: ArrayLike, alpha: float) -> jax.Array:
    r"""Conformal correction of an interval: subtract it below, add it above.

    Use it when predicted quantiles must cover a target with a guaranteed rate.

    .. math:: s_{(k)}, \quad k = \lceil (n + 1)(1 - \alpha) \rceil

    the k-th smallest score of held-out examples: intervals widened by it cover a new
    target with probability at least 1 - alpha. Sort the quantiles again afterwards. For
    groups and masks take ``decisions.conformal_threshold``, which computes it.

    Shapes: scores [..., N] -> [...]

    Args:
      scores: of ``cqr_scores``, the n held-out examples last.
      alpha: the miss rate, in (0, 1), a Python number: the rank that it gives, and
        whether there is one, is worked out before anything is traced.

    Returns:
      The offset, ``inf`` where n is too small for any finite one (k > n).

    Raises:
      TypeError: ``scores`` is not floating point.
      ValueError: ``alpha`` is outside (0, 1), or ``scores`` has no axis.

    Source: Romano et al. 2019, arXiv:1905.03222.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import cqr_calibrate
    >>> cqr_calibrate(jnp.arange(9.0), 0.1)
    Array(8., dtype=float32)
    """
    check_range("alpha", alpha, lambda v: (v > 0) & (v < 1), "a number in (0, 1)")
    return decisions.conformal_threshold(scores, alpha=alpha)
