"""What families share about their arguments: labels as masks, hyper-parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["checked", "label_mask"]


def label_mask(z: jax.Array, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Where the label is, and which labels are classes.

    Shapes: z [..., C], labels [...] -> [..., C], [...]

    Args:
      z: promoted logits, classes last.
      labels: ints in ``[0, C)``.

    Returns:
      Two bool arrays. A label under ``jit`` that is no class is nowhere, and not known.

    Raises:
      ValueError: wrong label shape, or a label out of range, by the rule of
        ``numerics.known_labels``.

    >>> label_mask(jnp.float32([2, 1, 0]), 1)[0]
    Array([False,  True, False], dtype=bool)
    """
    _, known = numerics.known_labels(labels, z.shape[:-1], z.shape[-1])
    return numerics.is_label(z, jnp.asarray(labels)), known


def checked(
    name: str, value: ArrayLike, valid: Callable[[np.ndarray], bool], expected: str
) -> None:
    """Refuses a hyper-parameter outside its range, unless it is traced.

    Raises:
      ValueError: names the argument, what came and what was expected.

    >>> checked("tau", 1.0, lambda tau: tau >= 0, "at least 0")
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(valid(np.asarray(value))):
        raise ValueError(f"{name} is {value}, expected {expected}")


NOT_LOSSES = ("checked", "label_mask")
