"""What families share about their arguments: labels, hyper-parameters, weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "as_binary",
    "binary",
    "check_count",
    "check_distribution_shape",
    "check_number",
    "check_range",
    "check_same_shape",
    "counts_per_class",
    "distribution",
    "elementwise",
    "expected",
    "hyper",
    "is_soft",
    "kept_examples",
    "kept_logits",
    "one_hot_mask",
    "lengths_like",
    "log_ratio",
    "logps_like",
    "per_class",
    "per_row",
    "positive",
    "weighted",
    "whole",
]


def one_hot_mask(z: jax.Array, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Where the label is, and which labels are classes.

    Shapes: z [..., C], labels [...] -> [..., C], [...]

    Args:
      z: promoted logits, classes last.
      labels: ints in ``[0, C)``, or negative for an example without a label.

    Returns:
      Two bool arrays. A label that is no class is nowhere, and not known.

    Raises:
      ValueError: wrong label shape, or a label of C or more, by the rule of
        ``numerics.check_labels``.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import one_hot_mask
    >>> one_hot_mask(jnp.float32([2, 1, 0]), 1)[0]
    Array([False,  True, False], dtype=bool)
    """
    y, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1])
    return numerics.is_label(z, jnp.where(known, y, -1)), known


def kept_examples(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits and labels of a metric, both 0 where its mask leaves them out, and that.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...]
      -> [..., C], [...], [...]

    Returns:
      Promoted logits, classes last; labels as int32, as they are where they count; and
      the mask, whole if there is none.

    Raises:
      ValueError: the shapes disagree, or a label that counts is C or more.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import kept_examples
    >>> z, y = jnp.float32([[2, 1], [jnp.nan, 0]]), jnp.array([1, -100])
    >>> kept_examples(z, y, mask=jnp.array([True, False]))[1]
    Array([1, 0], dtype=int32)
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    y = numerics.wide_labels(labels)
    if mask is not None and y.shape == keep.shape:
        y = jnp.where(keep, y, 0)
    numerics.check_labels(y, z.shape[:-1], z.shape[-1])
    return z, y, keep


def kept_logits(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Logits of a metric without labels, 0 where its mask leaves them out, and that.

    Shapes: logits [..., C], where [..., C], mask [...] -> [..., C], [...]

    Returns:
      Promoted logits, classes last, and the mask, whole if there is none.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import kept_logits
    >>> z, mask = jnp.float32([[2, 1], [jnp.nan, 0]]), jnp.array([True, False])
    >>> kept_logits(z, mask=mask)[0]
    Array([[2., 1.],
           [0., 0.]], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    keep = numerics.check_mask(mask, z.shape[:-1])
    return (z if mask is None else jnp.where(keep[..., None], z, 0)), keep


def is_soft(labels: ArrayLike) -> bool:
    """Whether labels are floats: a distribution over the classes, not integers.

    >>> from logitlab.numerics.arguments import is_soft
    >>> is_soft([0.5, 0.5]), is_soft(1)
    (True, False)
    """
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)
    return jnp.issubdtype(labels.dtype, jnp.floating)


def distribution(
    z: jax.Array,
    labels: ArrayLike,
    shape: tuple[int, ...],
    axis: int = -1,
    name: str = "labels",
) -> jax.Array:
    """Distributions over classes beside promoted logits, whose classes are last.

    NaN at a hidden class is no mass; a mass there is kept, for the loss to refuse.

    Args:
      z: promoted logits, classes last, ``-inf`` where hidden.
      labels: floats of the shape that the logits came in.
      shape: that shape.
      axis: its class axis.
      name: what an error calls the labels.

    Raises:
      TypeError: the labels are not floating point.
      ValueError: they have another shape.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import distribution
    >>> distribution(jnp.float32([1, -jnp.inf]), [1.0, jnp.nan], (2,))
    Array([1., 0.], dtype=float32)
    """
    q = numerics.promote_to_float32(labels, name)
    check_distribution_shape(name, q, shape)
    q = jnp.moveaxis(q, axis, -1).astype(z.dtype)
    return jnp.where(jnp.isnan(q) & (z == -jnp.inf), 0, q)


def check_distribution_shape(
    name: str, labels: jax.Array, shape: Sequence[int]
) -> None:
    """Refuses floating point labels that do not have the shape of the logits.

    Raises:
      ValueError: names the argument, with both shapes.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import check_distribution_shape
    >>> check_distribution_shape("labels", jnp.float32([0.5, 0.5]), (2,))
    """
    if labels.shape == tuple(shape):
        return
    hint = ""
    if labels.ndim == len(shape) - 1:
        hint = f"; class ids are integers: {name}.astype(int)"
    raise ValueError(
        f"{name} has shape {labels.shape}, expected {tuple(shape)}, as {name} of dtype "
        f"{labels.dtype} are distributions over classes{hint}"
    )


def expected(
    loss: Callable[[jax.Array], jax.Array],
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""A function of the label's ``-log p``, or its mean over a distribution.

    .. math:: f(-\log p_y), \quad \text{or } \sum_c q_c f(-\log p_c)

    Shapes: logits [..., C], labels [...] or [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import expected
    >>> expected(jnp.exp, jnp.float32([0, 0]), jnp.float32([0.5, 0.5])).round(4)
    Array(2., dtype=float32)
    """
    if not is_soft(labels):
        return loss(numerics.label_nll(logits, labels, axis=axis, where=where))
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    q = distribution(z, labels, jnp.shape(logits), axis)
    some = jnp.max(z, -1, keepdims=True) > -jnp.inf
    nll = jnp.where(some, -numerics.log_softmax(z), 0)
    return jnp.sum(weighted(q, loss(nll)), -1)


def binary(
    labels: ArrayLike,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    keep: jax.Array | bool = True,
    soft: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Labels 0 or 1, or probabilities, as floats, and which of them are refused.

    A negative label means "no label", at any dtype. What ``keep`` leaves out may be
    anything; it and what is refused come back as 0, for the caller to make NaN.

    Raises:
      ValueError: another shape, or a label that is neither negative nor in [0, 1]
        (without ``soft``: neither 0 nor 1); under ``jit``, where values are unknown,
        such a label is only refused.

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from logitlab.numerics.arguments import binary
    >>> binary(np.array([1, -100]), (2,), jnp.float32)
    (Array([1., 0.], dtype=float32), Array([False,  True], dtype=bool))
    """
    t = whole(labels)
    if t.shape != tuple(shape):
        raise ValueError(f"labels has shape {t.shape}, expected {tuple(shape)}")
    valid = ((t >= 0) & (t <= 1)) if soft else ((t == 0) | (t == 1))
    bad = keep & ~valid
    beyond = bad & ~(t < 0)
    if numerics.is_concrete(beyond) and beyond.any():
        what = "outside [0, 1]" if soft else "other than 0 and 1"
        raise ValueError(f"labels {what}: {t[beyond][:5]}")
    return jnp.where(keep & valid, t, 0).astype(dtype), bad


def weighted(weight: ArrayLike, losses: jax.Array, name: str = "weight") -> jax.Array:
    """``weight * losses``, in which a weight of 0 silences even ``inf``.

    A weight of 0 keeps its own derivative beside a finite loss. NaN, the loss without a
    label, stays. ``name`` is what an error calls the weight.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import weighted
    >>> weighted(0.0, jnp.float32([jnp.inf, 1, jnp.nan]))
    Array([ 0.,  0., nan], dtype=float32)
    """
    weight = hyper(name, weight, losses.dtype)
    shape = jnp.broadcast_shapes(weight.shape, losses.shape)
    weight, losses = (jnp.broadcast_to(a, shape) for a in (weight, losses))
    return weight * jnp.where((weight == 0) & jnp.isinf(losses), 0, losses)


def check_range(
    name: str, value: ArrayLike, valid: Callable[[np.ndarray], Any], expected: str
) -> None:
    """Refuses a hyper-parameter outside its range, unless it is traced.

    Raises:
      TypeError: it is no number: None, for instance.
      ValueError: names the argument, what came and what was expected.

    >>> from logitlab.numerics.arguments import check_range
    >>> check_range("tau", 1.0, lambda tau: tau >= 0, "at least 0")
    """
    check_number(name, value, expected)
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(valid(np.asarray(value))):
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuses what is no Python integer, or a traced one, or too small.

    Raises:
      TypeError: it is no whole number that is known now.
      ValueError: it is below ``least``.

    >>> from logitlab.numerics.arguments import check_count
    >>> check_count("bins", 15)
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} is {value!r}, expected a Python integer of at least {least}"
        ) from None
    if count < least:
        raise ValueError(f"{name} is {count}, expected at least {least}")


def hyper(
    name: str,
    value: ArrayLike,
    dtype: jnp.dtype,
    valid: Callable[[np.ndarray], Any] | None = None,
    expected: str = "",
) -> jax.Array:
    """A hyper-parameter in the dtype of the arrays, refused outside its range.

    A traced one is not looked at. Whatever its own dtype, it does not decide that of
    the loss.

    Raises:
      TypeError: it is no number: None, for instance.
      ValueError: names the argument, what came and what was expected.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import hyper
    >>> hyper("tau", 0.5, jnp.float32, lambda tau: tau >= 0, "at least 0").dtype
    dtype('float32')
    """
    check_number(name, value, expected)
    if valid is not None:
        check_range(name, value, valid, expected)
    return jnp.asarray(value, dtype)


def check_number(name: str, value: ArrayLike | None, expected: str = "") -> None:
    """Refuses None and text where a number is due.

    Raises:
      TypeError: names the argument, what came and what was expected.

    >>> from logitlab.numerics.arguments import check_number
    >>> check_number("temperature", 2.0)
    """
    if value is None or isinstance(value, str):
        more = f" ({expected})" if expected else ""
        raise TypeError(f"{name} is {value!r}, expected a number{more}")


def per_class(
    name: str,
    value: ArrayLike,
    z: jax.Array,
    valid: Callable[[np.ndarray], Any] | None = None,
    expected: str = "",
) -> jax.Array:
    """One number for each class of ``z`` [..., C], in its dtype, checked as ``hyper``.

    Raises:
      ValueError: ``value`` is not of the shape [C], or outside its range.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import per_class
    >>> per_class("class_weights", [1, 2], jnp.float32([0, 0]))
    Array([1., 2.], dtype=float32)
    """
    if np.shape(value) != z.shape[-1:]:
        raise ValueError(f"{name} has shape {np.shape(value)}, expected {z.shape[-1:]}")
    return hyper(name, value, z.dtype, valid, expected)


def per_row(
    name: str,
    value: ArrayLike,
    x: jax.Array,
    valid: Callable[[np.ndarray], Any] | None = None,
    expected: str = "",
) -> jax.Array:
    """One number for all rows of ``x`` [..., D], or for each, as ``hyper`` [..., 1].

    Raises:
      ValueError: ``value`` is neither a number nor of the shape [...], or outside its
        range.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import per_row
    >>> per_row("sigma", [1, 2], jnp.zeros((2, 3))).shape
    (2, 1)
    """
    value = hyper(name, value, x.dtype, valid, expected)
    if value.shape not in ((), x.shape[:-1]):
        raise ValueError(
            f"{name} has shape {value.shape}, expected () or {x.shape[:-1]}"
        )
    return jnp.broadcast_to(value, x.shape[:-1])[..., None]


def counts_per_class(
    counts: ArrayLike, classes: int | None = None, name: str = "counts"
) -> jax.Array:
    """How often each class occurs, as floats; ``classes`` is how many are due.

    Raises:
      ValueError: ``counts``, called ``name`` in the message, has another shape or a
        negative number.

    >>> import numpy as np
    >>> from logitlab.numerics.arguments import counts_per_class
    >>> counts_per_class(np.array([2**40, 1]), 2)
    Array([1.0995116e+12, 1.0000000e+00], dtype=float32)
    """
    if not isinstance(counts, jax.Array):
        counts = np.asarray(counts)  # which holds more than 2**31 examples
    if not jnp.issubdtype(counts.dtype, jnp.floating):
        counts = counts.astype(jnp.result_type(float))
    n = numerics.promote_to_float32(counts, name)
    if n.ndim != 1 or classes not in (None, n.size):
        wanted = "one per class" if classes is None else f"({classes},)"
        raise ValueError(f"{name} has shape {n.shape}, expected {wanted}")
    check_range(name, n, lambda n: n >= 0, "at least 0")
    return n


def as_binary(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Logits and labels of sigmoid losses, with classes last.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [..., C], [..., C],
      [..., C], [..., C]

    A single logit without axes is taken as one class.

    Returns:
      The logits, 0 where they are hidden; labels in [0, 1], in the logits' dtype; the
      labels that take part; and those of them that are none: a number below 0, which
      says so, or under ``jit`` one above 1.

    Raises:
      ValueError: labels of another shape or, where they take part and can be seen,
        above 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import as_binary
    >>> as_binary(jnp.float32([1, 2]), jnp.array([1, -100]))[3]
    Array([False,  True], dtype=bool)
    """
    numerics.check_is_array(logits, "logits")
    numerics.check_is_array(labels, "labels")
    shape = np.shape(logits)
    if np.shape(labels) != shape:
        raise ValueError(f"labels has shape {np.shape(labels)}, expected {shape}")
    if not shape:
        logits, labels = jnp.asarray(logits)[None], whole(labels)[None]
        where = None if where is None else jnp.asarray(where)[None]
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    shown = z != -jnp.inf
    keep = jnp.moveaxis(shown, -1, axis)
    t, bad = (
        jnp.moveaxis(a, axis, -1) for a in binary(labels, keep.shape, z.dtype, keep)
    )
    return jnp.where(shown, z, 0), t, shown, bad


def whole(labels: ArrayLike) -> jax.Array:
    """Labels as they are, or as ``numerics.wide_labels`` if they are integers.

    >>> import numpy as np
    >>> from logitlab.numerics.arguments import whole
    >>> whole(np.array([2**32 + 1])), whole([0.5])
    (Array([2147483647], dtype=int32), Array([0.5], dtype=float32))
    """
    numerics.check_is_array(labels, "labels")
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)  # which keeps 64 bits, with or without x64
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    return numerics.wide_labels(labels) if integer else jnp.asarray(labels)


def elementwise(
    losses: jax.Array,
    shown: jax.Array,
    bad: jax.Array,
    *,
    axis: int = -1,
    like: ArrayLike,
) -> jax.Array:
    """Losses of what ``as_binary`` gave, laid out like the logits ``like`` it took.

    A hidden label costs 0, one that is none NaN.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import elementwise
    >>> elementwise(jnp.ones(2), jnp.array([True, False]), jnp.array([False, False]),
    ...             like=jnp.zeros(2))
    Array([1., 0.], dtype=float32)
    """
    losses = jnp.where(bad, jnp.nan, jnp.where(shown, losses, 0))
    losses = jnp.moveaxis(losses, -1, axis)
    return losses if np.ndim(like) else losses[0]


def logps_like(**arrays: ArrayLike) -> list[jax.Array]:
    """Promoted arrays of one shape and dtype, those of the first.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.
    """
    first, *_ = arrays
    known = {
        name: numerics.promote_to_float32(array, name) for name, array in arrays.items()
    }
    for name, array in known.items():
        if array.shape != known[first].shape:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {known[first].shape}, that "
                f"of {first}"
            )
    return [array.astype(known[first].dtype) for array in known.values()]


def lengths_like(
    logps: jax.Array, *, least: int = 1, **lengths: ArrayLike | None
) -> tuple[jax.Array, ...]:
    """Numbers of tokens as floats, at least 1 to divide by: no tokens have a sum of 0.

    Raises:
      ValueError: there are none, or they have another shape than ``logps``.
    """
    found = []
    for name, array in lengths.items():
        if array is None:
            raise ValueError(f"{name} is None, expected the number of tokens of each")
        array = jnp.asarray(array)
        if array.shape != logps.shape:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {logps.shape}, that of the "
                "log-probabilities"
            )
        found.append(jnp.maximum(array.astype(logps.dtype), least))
    return tuple(found)


def positive(**numbers: ArrayLike) -> None:
    """Refuses known hyper-parameters that are not positive."""
    for name, value in numbers.items():
        check_range(name, value, lambda v: v > 0, "positive")


def log_ratio(logps: jax.Array, ref_logps: jax.Array, beta: ArrayLike) -> jax.Array:
    """``beta * (logps - ref_logps)``, finite where only the difference is not."""
    return 2 * jnp.asarray(beta, logps.dtype) * (logps / 2 - ref_logps / 2)


def check_same_shape(
    name: str, array: ArrayLike, other: str, shape: Sequence[int]
) -> None:
    """Refuses an array that has not the shape of another one.

    Raises:
      ValueError: names both, with both shapes.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics.arguments import check_same_shape
    >>> check_same_shape("teacher_logits", jnp.ones(2), "student_logits", (2,))
    """
    numerics.check_is_array(array, name)
    if jnp.shape(array) != tuple(shape):
        raise ValueError(
            f"{name} has shape {jnp.shape(array)}, expected that of {other}, "
            f"{tuple(shape)}"
        )
