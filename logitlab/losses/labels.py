"""What families share about their arguments: labels as masks, hyper-parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["checked", "known_labels", "label_mask"]


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
        ``numerics.label_nll``.

    >>> label_mask(jnp.float32([2, 1, 0]), 1)[0]
    Array([False,  True, False], dtype=bool)
    """
    known = ~jnp.isnan(numerics.label_nll(jnp.zeros_like(z), labels))
    return numerics.is_label(z, jnp.asarray(labels)), known


def known_labels(
    labels: ArrayLike, shape: tuple[int, ...], classes: int
) -> tuple[jax.Array, jax.Array]:
    """Integer labels of a shape, and which of them are classes.

    For losses whose number of classes is not that of their logits.

    Returns:
      The labels as int32, 0 where they are no class, and a bool array.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: wrong shape, or a label outside ``[0, classes)`` that is not traced.

    >>> known_labels(jnp.array([2, 0]), (2,), 3)[1]
    Array([ True,  True], dtype=bool)
    """
    y = jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {y.dtype}, expected integers")
    if y.shape != tuple(shape):
        raise ValueError(f"labels has shape {y.shape}, expected {tuple(shape)}")
    known = (y >= 0) & (y < classes)
    concrete = not isinstance(known, jax.core.Tracer) and known.is_fully_addressable
    if concrete and not known.all():
        raise ValueError(f"labels outside [0, {classes}): {y[~known][:5]}")
    return jnp.where(known, y, 0).astype(jnp.int32), known


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


NOT_LOSSES = ("checked", "known_labels", "label_mask")
