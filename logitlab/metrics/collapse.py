"""Softmax collapse: when rounding has made the softmax one-hot and killed its gradient.

Source: Grokking at the Edge of Numerical Stability, Prieto et al. 2025,
arXiv:2501.04697.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, mean_of, tree_norm


def softmax_collapse_rows(
    logits: ArrayLike, dtype: jax.typing.DTypeLike | None = None
) -> jax.Array:
    r"""Rows in which every class but the top one is absorbed by rounding.

    A row is collapsed when :math:`\sum_c e^{z_c - \max z} = 1` exactly in ``dtype``:
    margins, exponentials and their sum are rounded to it. For two classes this begins
    at a margin of 7.62 in float16, 5.55 in bfloat16, 16.64 in float32 and 36.74 in
    float64. A tie at the top is never collapsed, nor is a row with a NaN or an infinity
    at the top.

    Shapes: logits [..., C] -> [...]

    Args:
      logits: scores, cast to ``dtype`` first.
      dtype: the arithmetic asked about; the logits' own by default. float64 needs x64.

    Raises:
      TypeError: ``logits`` or ``dtype`` is not floating point, or ``dtype`` is float64
        while x64 is off.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import softmax_collapse_rows
    >>> softmax_collapse_rows(jnp.float32([[17, 0], [16, 0], [17, 17]]))
    Array([ True, False, False], dtype=bool)
    """
    z, kind = _cast(logits, dtype)
    top = z.max(-1, keepdims=True)
    # 0 for the top, by its place: compilers may compute it twice, and round it
    # differently. One that is no number stays none.
    lead = numerics.is_label(z, z.argmax(-1).astype(jnp.int32)) & jnp.isfinite(top)
    o = jnp.where(lead, 0, _round(z - top, kind))
    total = _round(jnp.exp(o), kind).sum(-1)
    return _round(total, kind) == 1


def softmax_collapse_fraction(
    logits: ArrayLike,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    mask: ArrayLike | None = None,
) -> Mean:
    """Share of rows whose softmax has collapsed to one-hot by rounding.

    Use it to see whether rounding has stopped a network from learning.

    Shapes: logits [..., C], mask [...] -> ([], [])
    """
    return mean_of(softmax_collapse_rows(logits, dtype), mask)


def zero_loss_fraction(
    logits: ArrayLike,
    labels: ArrayLike,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of rows whose usual cross-entropy, computed in ``dtype``, is exactly 0.

    That is :math:`\log \sum_c e^{z_c - \max z} - (z_y - \max z) = 0`: the row is
    collapsed and its top class is the label.

    Shapes: logits [..., C], labels [...], mask [...] -> ([], [])

    Raises:
      TypeError: as :func:`softmax_collapse_rows`, or ``labels`` is not integer.
      ValueError: ``labels`` has the wrong shape.
    """
    z, _ = _cast(logits, dtype)
    labels = numerics.wide_labels(labels)
    if labels.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {labels.shape}, expected {z.shape[:-1]}")
    right = z.argmax(-1) == labels  # a collapsed row has a single top class
    return mean_of(softmax_collapse_rows(logits, dtype) & right, mask)


def nlm_alignment(grads: Any, params: Any, *, per_leaf: bool = False) -> Any:
    r"""Cosine between the descent direction and naive loss minimisation.

    .. math:: \cos(-\nabla L, \theta) = -\langle \nabla L, \theta \rangle /
        (\lVert \nabla L \rVert \lVert \theta \rVert)

    Scaling the weights of a positively homogeneous network scales its logits and
    lowers the loss without changing a prediction; 1 means that a step does nothing
    else.

    Args:
      grads: gradient of the loss, a pytree.
      params: the parameters, the same structure.
      per_leaf: one cosine for each array instead of one over their concatenation.

    Returns:
      A scalar, or a pytree of scalars; 0 where either norm is 0.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import nlm_alignment
    >>> nlm_alignment({"w": jnp.float32([-2, 0])}, {"w": jnp.float32([1, 0])})
    Array(1., dtype=float32)
    """
    if per_leaf:
        return jax.tree.map(lambda g, p: nlm_alignment([g], [p]), grads, params)
    grads, params = (_unit(tree) for tree in (grads, params))
    inner = jax.tree.map(lambda g, p: (g * p).sum(), grads, params)
    return -sum(jax.tree.leaves(inner))


def _unit(tree):
    """The tree over its norm, so that no product under- or overflows."""
    norm = tree_norm(tree)
    return jax.tree.map(lambda a: a / jnp.where(norm > 0, norm, 1), tree)


def _cast(logits, dtype):
    logits = jnp.asarray(logits)
    kind = jnp.dtype(logits.dtype if dtype is None else dtype)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits has dtype {logits.dtype}, expected floating point")
    if not jnp.issubdtype(kind, jnp.floating):
        raise TypeError(f"dtype is {kind}, expected a floating point type")
    if kind == jnp.float64 and not jax.config.jax_enable_x64:
        raise TypeError("dtype is float64, expected jax_enable_x64 to be on for it")
    wide = jnp.promote_types(kind, jnp.float32)
    return _round(logits.astype(kind).astype(wide), kind), kind


def _round(x, kind):
    """Rounds to ``kind``; a pair of casts may be optimised away, this may not."""
    info = jnp.finfo(kind)
    return jax.lax.reduce_precision(x, info.nexp, info.nmant)
