"""What every estimator asks of its examples."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from logitlab import numerics


def feature_rows(x: ArrayLike, name: str = "x") -> jax.Array:
    """Features [N, D] of at least one example, promoted to float32.

    Raises:
      TypeError: ``x``, called ``name`` in the message, is not floating point.
      ValueError: it has other axes, or no rows.
    """
    x = numerics.promote_to_float32(x, name)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"{name} has shape {x.shape}, expected [N, D] with examples")
    return x
