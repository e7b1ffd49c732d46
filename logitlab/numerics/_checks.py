"""Arguments checked and promoted, labels looked up, losses reduced under a mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def promote_to_float32(array: ArrayLike, name: str = "logits") -> jax.Array:
    """Floating point ``array``, 16-bit types widened to float32.

    Raises:
      TypeError: ``array``, called ``name`` in the message, is not floating point.
    """
    check_is_array(array, name)
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = ""
        if name.endswith("logits") and jnp.issubdtype(array.dtype, jnp.integer):
            hint = "; logits come before labels, and integer scores need astype(float)"
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected floating point{hint}"
        )
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def check_is_array(array: ArrayLike | None, name: str) -> None:
    """Refuses None and a dictionary, as of parameters, where an array is due.

    Raises:
      TypeError: names the argument, what came and what was expected.

    >>> from logitlab.numerics import check_is_array
    >>> check_is_array([1.0, 2.0], "logits")
    """
    if array is None:
        raise TypeError(f"{name} is None, expected an array")
    if isinstance(array, Mapping):
        keys = ", ".join(map(repr, array))
        raise TypeError(
            f"{name} is a dictionary with the keys {keys}, expected an array; pass "
            "one of its entries"
        )


def prepare_logits(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    name: str = "logits",
) -> jax.Array:
    """Promoted logits with classes on the last axis and hidden ones at ``-inf``.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` is not bool, or ``axis`` is
        not one integer.
      ValueError: no such axis, no classes, or ``where`` has another number of axes or
        does not broadcast.
    """
    z = promote_to_float32(logits, name)
    if not isinstance(axis, int | np.integer):
        raise TypeError(f"axis is {axis!r}, expected one integer")
    if not -z.ndim <= axis < z.ndim:
        raise ValueError(f"axis {axis} is not an axis of {name} with shape {z.shape}")
    if z.shape[axis] == 0:
        raise ValueError(f"{name} has shape {z.shape}, expected at least one class")
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != bool:
            raise TypeError(f"where has dtype {where.dtype}, expected bool")
        if where.ndim != z.ndim:  # one entry per example would pass for one per class
            raise ValueError(
                f"where has shape {where.shape}, expected {z.ndim} axes as {name} has, "
                f"{z.shape}: it hides classes; a mask leaves examples out of the mean"
            )
        try:
            where = jnp.broadcast_to(where, z.shape)
        except ValueError:
            raise ValueError(
                f"where has shape {where.shape}, expected one that broadcasts to "
                f"{name}, {z.shape}"
            ) from None
        z = jnp.where(where, z, -jnp.inf)
    return jnp.moveaxis(z, axis, -1)


def check_labels(
    labels: ArrayLike, shape: tuple[int, ...], classes: int
) -> tuple[jax.Array, jax.Array]:
    """Integer labels of a shape, 0 where they are no class, and which of them are one.

    A negative label means "no label". The loss of a label that is not known is NaN,
    which a mask selects out.

    Returns:
      The labels as int32, and a bool array.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: wrong shape, or a label of ``classes`` or more; under ``jit``, where
        values are unknown, such a label is only not known.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import check_labels
    >>> check_labels(jnp.array([2, -100]), (2,), 3)[1]
    Array([ True, False], dtype=bool)
    """
    y = wide_labels(labels)
    if y.shape != tuple(shape):
        hint = ""
        if y.ndim == len(shape) + 1:
            hint = ", class ids; labels.argmax(-1) are those of one-hot labels"
        raise ValueError(f"labels has shape {y.shape}, expected {tuple(shape)}{hint}")
    known = (y >= 0) & (y < classes)
    beyond = y >= classes
    if is_concrete(beyond) and beyond.any():
        raise ValueError(f"labels outside [0, {classes}): {y[beyond][:5]}")
    return jnp.where(known, y, 0), known


def wide_labels(labels: ArrayLike, name: str = "labels") -> jax.Array:
    """Labels of any integer dtype as int32, in which no label wraps to another class.

    What int32 cannot hold becomes the nearest number that it can hold.

    Raises:
      TypeError: ``labels``, called ``name`` in the message, is not integer.

    >>> import numpy as np
    >>> from logitlab.numerics import wide_labels
    >>> wide_labels(np.array([200, 3], np.uint8))
    Array([200,   3], dtype=int32)
    """
    check_is_array(labels, name)
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)  # which keeps 64 bits, with or without x64
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name} has dtype {labels.dtype}, expected integers; whole numbers can be "
            f"cast: {name}.astype(int)"
        )
    if jnp.iinfo(labels.dtype).max > jnp.iinfo(jnp.int32).max:
        least = max(jnp.iinfo(labels.dtype).min, -(2**31))
        labels = labels.clip(least, 2**31 - 1)
    return jnp.asarray(labels.astype(np.int32))


def check_devices(**arrays: Any) -> None:
    """Refuses arrays that lie on other devices than the first of them.

    What is traced, or may still be moved, is not looked at.

    Raises:
      ValueError: names the argument, its devices and those of the first.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import check_devices
    >>> check_devices(logits=jnp.zeros((2, 3)), labels=jnp.zeros(2, int))
    """
    first = None
    for name, array in arrays.items():
        concrete = isinstance(array, jax.Array) and not isinstance(
            array, jax.core.Tracer
        )
        if not concrete or not array.committed:
            continue
        first = first or (name, array.sharding.device_set)
        if array.sharding.device_set != first[1]:
            theirs, ours = (
                sorted(device.id for device in devices)
                for devices in (array.sharding.device_set, first[1])
            )
            raise ValueError(
                f"{name} lies on the devices {theirs}, expected those of {first[0]}, "
                f"{ours}; jax.device_put moves an array"
            )


def is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Bool, where the class on the last axis is the label, laid out as the logits are.

    Shapes: logits [..., C], labels [...] -> [..., C]

    A label that is no class is nowhere.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import is_label
    >>> is_label(jnp.zeros((2, 3)), jnp.array([2, -1]))
    Array([[False, False,  True],
           [False, False, False]], dtype=bool)
    """
    check_devices(logits=logits, labels=labels)
    classes = jax.lax.broadcasted_iota(
        jnp.int32,
        logits.shape,
        logits.ndim - 1,
        out_sharding=jax.typeof(logits).sharding,
    )
    return classes == labels[..., None]


def take_label_logit(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The logit of the label, also where classes are spread over devices.

    Shapes: logits [..., C], labels [...] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import take_label_logit
    >>> take_label_logit(jnp.float32([3, 1]), jnp.array(1))
    Array(1., dtype=float32)
    """
    check_devices(logits=logits, labels=labels)
    if jax.typeof(logits).sharding.spec[-1] is not None:
        return _sum_of_label(logits, labels)  # explicitly spread: no gather
    # XLA stores for a gather what it reads, such as a float32 copy of bfloat16 logits.
    # On TPU that is an array of logits, which a sum over the classes does not need.
    return jax.lax.platform_dependent(
        logits, labels, tpu=_sum_of_label, default=_gather_label
    )


def _sum_of_label(logits, labels):
    return jnp.where(is_label(logits, labels), logits, 0).sum(-1)


def _gather_label(logits, labels):
    return jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]


def is_concrete(array: jax.Array) -> bool:
    """Whether this process can look at every value: not under ``jit``, for instance.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import is_concrete
    >>> is_concrete(jnp.ones(2)), jax.jit(lambda x: x * is_concrete(x))(1.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    return not isinstance(array, jax.core.Tracer) and array.is_fully_addressable


def check_mask(
    mask: ArrayLike | None, shape: tuple[int, ...], name: str = "mask"
) -> jax.Array:
    """The bool array of a shape that says which examples count; all without a mask.

    Raises:
      TypeError: ``mask``, called ``name`` in the message, is not bool.
      ValueError: it has another shape.

    >>> from logitlab.numerics import check_mask
    >>> check_mask(None, (2,))
    Array([ True,  True], dtype=bool)
    """
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected bool")
    if mask.shape != tuple(shape):
        raise ValueError(f"{name} has shape {mask.shape}, expected {tuple(shape)}")
    return mask


def masked_mean(losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    """Mean of the losses that ``mask`` keeps; the others are selected out.

    A loss that is left out may be NaN or infinite: it touches neither the mean nor its
    gradient. No example kept gives 0 with zero gradient.

    Shapes: losses [...], mask [...] -> []

    Raises:
      TypeError: ``losses`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import masked_mean
    >>> masked_mean(jnp.float32([1, 3, jnp.nan]), jnp.array([True, True, False]))
    Array(2., dtype=float32)
    """
    losses = promote_to_float32(losses, "losses")
    mask = check_mask(mask, losses.shape)
    losses = jnp.where(mask, losses, 0)
    count = jnp.maximum(mask.sum(dtype=jnp.int32), 1).astype(losses.dtype)
    # A sum that would overflow is taken of smaller numbers; small ones stay whole.
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(losses)), initial=0)
    scale = jnp.where(largest > jnp.finfo(losses.dtype).max / count, 1 / count, 1)
    return (losses * scale).sum() / (count * scale)
