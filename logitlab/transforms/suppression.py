"""Less of what was said already: counts of tokens, biases, and labels mended after."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_same_shape, hyper

__all__ = [
    "filter_in_scope",
    "label_replace",
    "suppress_logits",
    "suppression_bias",
    "update_counts",
]


def suppression_bias(
    counts: ArrayLike, *, strength: ArrayLike = 7.5, top_k: int = 100
) -> jax.Array:
    r"""Bias against the tokens that occurred most, in proportion to their counts.

    .. math:: b_v = -s \, \frac{c_v}{\max_u c_u}

    for the ``top_k`` most frequent tokens, 0 for all others; of tokens that are as
    frequent the lower ids come first. Counts are data, without a gradient.

    Shapes: counts [..., C] -> [..., C]

    Args:
      counts: how often each token occurred, ints or floats, at least 0.
      strength: s, the bias of the most frequent token, at least 0.
      top_k: how many tokens are suppressed; C or more means all.

    Returns:
      float32 (float64 for float64 counts); 0 without any counts.

    Raises:
      ValueError: ``strength`` or a known count is negative, or ``top_k`` below 1.

    Source: Increasing Diversity While Maintaining Accuracy, Chung et al. 2023,
      arXiv:2306.04140; that the bias is proportional to the frequency is recalled, not
      read again.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import suppression_bias
    >>> suppression_bias(jnp.array([4, 2, 1]), top_k=2)
    Array([-7.5 , -3.75, -0.  ], dtype=float32)
    """
    check_count("top_k", top_k)
    c = _counts(counts)
    strength = hyper("strength", strength, c.dtype, lambda s: s >= 0, "at least 0")
    if c.shape[-1] == 0:
        raise ValueError(f"counts has shape {c.shape}, expected at least one token")
    most = jnp.max(c, -1, keepdims=True)
    bias = -strength * c / jnp.where(most > 0, most, 1)
    if top_k >= c.shape[-1]:
        return bias
    _, ids = jax.lax.top_k(c, top_k)  # of equal ones the lower ids first
    rows = c.reshape(-1, c.shape[-1])
    chosen = jax.vmap(lambda row, i: jnp.zeros(row.shape, bool).at[i].set(True))(
        rows, ids.reshape(-1, top_k)
    ).reshape(c.shape)
    return jnp.where(chosen, bias, -0.0)


def _counts(counts):
    if jnp.issubdtype(jnp.asarray(counts).dtype, jnp.integer):
        counts = jnp.asarray(counts).astype(jnp.float32)
    c = jax.lax.stop_gradient(numerics.promote_to_float32(counts, "counts"))
    if c.ndim == 0:
        raise ValueError(f"counts has shape {c.shape}, expected [..., C]")
    if numerics.is_concrete(c) and (np.asarray(c) < 0).any():
        raise ValueError(f"counts reach {np.min(c)}, expected at least 0")
    return c


def suppress_logits(
    logits: ArrayLike,
    counts: ArrayLike,
    *,
    strength: ArrayLike = 7.5,
    top_k: int = 100,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logits with a bias against the tokens that occurred most.

    Use it to make generated data more diverse, before the temperature divides; labels
    that such data were asked for are then wrong more often, see ``label_replace``.

    .. math:: z_v - s \, \frac{c_v}{\max_u c_u}

    Shapes: logits [..., C], counts [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      counts: see ``suppression_bias``, in the layout of the logits.
      strength: bias of the most frequent token; at 0 the logits come back bit by bit.
      top_k: how many tokens are suppressed.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits), ``-inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or see ``suppression_bias``.

    Source: Chung et al. 2023, arXiv:2306.04140.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import suppress_logits
    >>> suppress_logits(jnp.float32([1, 1, 1]), jnp.array([4, 2, 1]), top_k=2)
    Array([-6.5 , -2.75,  1.  ], dtype=float32)
    """
    check_same_shape("counts", counts, "logits", jnp.shape(logits))
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    bias = suppression_bias(
        jnp.moveaxis(jnp.asarray(counts), axis, -1), strength=strength, top_k=top_k
    )
    return jnp.moveaxis(z + bias.astype(z.dtype), -1, axis)


def update_counts(
    counts: ArrayLike,
    tokens: ArrayLike,
    *,
    decay: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Counts of tokens after some more were said.

    Shapes: counts [..., C], tokens [..., N], mask [..., N] -> [..., C]

    Args:
      counts: how often each token occurred, ints or floats.
      tokens: ints; a negative one, or under ``jit`` one of C or more, counts nowhere.
      decay: what the earlier counts are multiplied by, in (0, 1]; with one below 1 the
        counts have to be floats.
      mask: bool, the tokens that count.

    Returns:
      Counts in their dtype.

    Raises:
      TypeError: ``tokens`` are not integers, or ``mask`` is not bool.
      ValueError: the leading axes differ, ``decay`` is outside (0, 1], or a token is C
        or more.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import update_counts
    >>> update_counts(jnp.zeros(3), jnp.array([2, 0, 2, -1]))
    Array([1., 0., 2.], dtype=float32)
    """
    c, t = jnp.asarray(counts), numerics.wide_labels(tokens, "tokens")
    if c.ndim == 0 or t.ndim == 0 or c.shape[:-1] != t.shape[:-1]:
        raise ValueError(
            f"tokens has shape {t.shape}, expected [..., N] with the leading axes of "
            f"counts, {c.shape}"
        )
    keep = numerics.check_mask(mask, t.shape)
    _, known = numerics.check_labels(jnp.where(keep, t, -1), t.shape, c.shape[-1])
    one = hyper("decay", decay, jnp.float32, lambda d: (d > 0) & (d <= 1), "in (0, 1]")
    if not jnp.issubdtype(c.dtype, jnp.integer):
        c = c * one.astype(c.dtype)
    elif isinstance(decay, jax.core.Tracer) or np.any(np.asarray(decay) != 1):
        raise TypeError(f"counts has dtype {c.dtype}, expected floats to decay")
    at = jnp.where(known, t, c.shape[-1])  # beyond the end, where it is dropped
    add = jax.vmap(lambda row, i: row.at[i].add(1, mode="drop"))
    rows = add(c.reshape(-1, c.shape[-1]), at.reshape(-1, at.shape[-1]))
    return rows.reshape(c.shape)


def label_replace(labels: ArrayLike, oracle_labels: ArrayLike) -> jax.Array:
    """Labels of generated examples, by an oracle where it has looked.

    Use it on data that were made diverse: every label that was asked for and is wrong
    becomes the oracle's.

    Shapes: labels [...], oracle_labels [...] -> [...]

    Args:
      labels: ints that the examples were asked for.
      oracle_labels: ints, negative where the oracle did not say.

    Returns:
      int32.

    Raises:
      TypeError: they are not integers.
      ValueError: the shapes differ.

    Source: Chung et al. 2023, arXiv:2306.04140.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import label_replace
    >>> label_replace(jnp.array([0, 1, 2]), jnp.array([1, -1, 2]))
    Array([1, 1, 2], dtype=int32)
    """
    check_same_shape("oracle_labels", oracle_labels, "labels", jnp.shape(labels))
    asked = numerics.wide_labels(labels)
    said = numerics.wide_labels(oracle_labels, "oracle_labels")
    return jnp.where(said >= 0, said, asked)


def filter_in_scope(examples: Any, in_scope: ArrayLike) -> Any:
    """The examples that belong to one of the classes at all.

    Use it on generated data, of which an oracle marked what is none of them; it runs
    on the host, as the number of examples changes. Where shapes must stay, pass the
    marks on as ``mask``.

    Args:
      examples: a tree of arrays [N, ...].
      in_scope: bool [N].

    Returns:
      The tree with the marked rows, as NumPy arrays.

    Raises:
      TypeError: ``in_scope`` is not bool.
      ValueError: an array has another number of rows.

    Source: Chung et al. 2023, arXiv:2306.04140.

    >>> import numpy as np
    >>> from logitlab.transforms import filter_in_scope
    >>> filter_in_scope({"x": np.arange(3)}, np.array([True, False, True]))
    {'x': array([0, 2])}
    """
    keep = np.asarray(in_scope)
    if keep.dtype != bool:
        raise TypeError(f"in_scope has dtype {keep.dtype}, expected bool")
    arrays = jax.tree.map(np.asarray, examples)
    for array in jax.tree.leaves(arrays):
        if keep.ndim != 1 or array.shape[:1] != keep.shape:
            raise ValueError(
                f"in_scope has shape {keep.shape}, expected one entry for each row of "
                f"an array of shape {array.shape}"
            )
    return jax.tree.map(lambda a: a[keep], arrays)
