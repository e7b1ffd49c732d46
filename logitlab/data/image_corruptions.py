"""Images made worse in five degrees, to test models on data unlike their training's."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["IMAGE_CORRUPTIONS", "corrupt_images"]


def corrupt_images(
    key: ArrayLike,
    images: ArrayLike,
    *,
    kind: Literal[
        "gaussian_noise",
        "impulse_noise",
        "blur",
        "contrast",
        "brightness",
        "shift",
        "rotation",
        "occlusion",
    ],
    severity: ArrayLike,
) -> jax.Array:
    """Images with noise, less sharp, paler, brighter, moved, turned or partly hidden.

    For the accuracy and the calibration of a model on data that it was not trained for,
    with five severities of each of eight kinds (``IMAGE_CORRUPTIONS`` of this module).
    Each image is drawn for by itself, in the direction of a shift or rotation and the
    place of an occlusion, which is a gray square. What comes in from outside is black.

    Shapes: images [..., H, W, D] -> [..., H, W, D]

    Args:
      key: a ``jax.random.key``. At one key, severities differ in degree alone.
      images: pixels from 0 to 1, with their channels last.
      kind: see above.
      severity: an int from 1 to 5; it may be traced, so that one program does them all.

    Returns:
      Pixels from 0 to 1, float32 (float64 for float64 images).

    Raises:
      TypeError: ``images`` is not floating point.
      ValueError: an unknown kind, a severity outside 1 to 5 (the nearest under
        ``jit``), or images without three axes.

    Source: Hendrycks and Dietterich 2019, arXiv:1903.12261, for the kinds.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import corrupt_images
    >>> image = jnp.zeros((4, 4, 1)).at[0, 0, 0].set(1.0)
    >>> key = jax.random.key(0)
    >>> corrupt_images(key, image, kind="brightness", severity=2)[0, :2, 0]
    Array([1. , 0.2], dtype=float32)
    """
    x = numerics.promote_to_float32(images, "images")
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {IMAGE_CORRUPTIONS}")
    if x.ndim < 3:
        raise ValueError(f"images has shape {x.shape}, expected [..., H, W, D]")
    valid = lambda s: (s >= 1) & (s <= 5) & (s == s // 1)  # noqa: E731
    check_range("severity", severity, valid, "an int from 1 to 5")
    corrupt, degrees = _KINDS[kind]
    at = jnp.clip(jnp.asarray(severity, jnp.int32) - 1, 0, 4)
    flat = x.reshape(-1, *x.shape[-3:])
    keys = jax.random.split(key, len(flat))
    degree = jnp.array(degrees, x.dtype)[at]
    new = jax.vmap(corrupt, (0, 0, None))(keys, flat, degree)
    return jnp.clip(new, 0, 1).reshape(x.shape)


def _gaussian_noise(key, x, deviation):
    return x + deviation * jax.random.normal(key, x.shape, x.dtype)


def _impulse_noise(key, x, share):
    chance, white = jax.random.uniform(key, (2, *x.shape), x.dtype)
    return jnp.where(chance < share, jnp.round(white), x)


def _blur(key, x, width):
    del key

    def smoother(size):
        apart = jnp.arange(size)[:, None] - jnp.arange(size)[None]
        kernel = jnp.exp(-0.5 * (apart / (width * _side(x))) ** 2)
        return kernel / jnp.sum(kernel, -1, keepdims=True)

    rows, columns = map(smoother, x.shape[:2])
    return jnp.einsum("ih,jw,hwd->ijd", rows, columns, x, precision="highest")


def _contrast(key, x, left):
    del key
    mean = jnp.mean(x)
    return mean + left * (x - mean)


def _brightness(key, x, more):
    del key
    return x + more


def _shift(key, x, distance):
    angle = jax.random.uniform(key, (), x.dtype, 0, 2 * jnp.pi)
    to = distance * _side(x) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return _sampled(x, _grid(x) - to[:, None, None])


def _rotation(key, x, degrees):
    angle = jnp.deg2rad(degrees) * jax.random.rademacher(key, (), x.dtype)
    turn = jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)])
    middle = (jnp.array(x.shape[:2], x.dtype) - 1).reshape(2, 1, 1) / 2
    from_middle = jnp.einsum("ij,jhw->ihw", turn.reshape(2, 2), _grid(x) - middle)
    return _sampled(x, from_middle + middle)


def _occlusion(key, x, share):
    size, side = jnp.array(x.shape[:2], x.dtype), share * _side(x)
    start = jax.random.uniform(key, (2,), x.dtype) * (size - side) - 0.5
    inside = _grid(x) - start[:, None, None]
    hidden = ((inside >= 0) & (inside <= side)).all(0)
    return jnp.where(hidden[..., None], 0.5, x)


def _side(x):
    return min(x.shape[:2])


def _grid(x):
    """Row and column of each pixel, [2, H, W]."""
    return jnp.stack(jnp.indices(x.shape[:2])).astype(x.dtype)


def _sampled(x, at):
    """The image at places between its pixels, 0 outside."""
    sample = functools.partial(
        jax.scipy.ndimage.map_coordinates, coordinates=at, order=1, mode="constant"
    )
    return jax.vmap(sample, -1, -1)(x)


# What is done, and how much of it by severity; lengths are shares of the shorter side.
_KINDS = {
    "gaussian_noise": (_gaussian_noise, (0.1, 0.2, 0.3, 0.45, 0.6)),  # deviation
    "impulse_noise": (_impulse_noise, (0.05, 0.1, 0.2, 0.3, 0.45)),  # black or white
    "blur": (_blur, (0.05, 0.08, 0.11, 0.15, 0.2)),  # deviation
    "contrast": (_contrast, (0.7, 0.5, 0.35, 0.2, 0.1)),  # what is left of it
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.45, 0.6)),  # what is added
    "shift": (_shift, (0.06, 0.12, 0.18, 0.25, 0.32)),  # distance
    "rotation": (_rotation, (10.0, 20.0, 30.0, 45.0, 60.0)),  # degrees
    "occlusion": (_occlusion, (0.25, 0.38, 0.5, 0.62, 0.75)),  # side of the square
}
IMAGE_CORRUPTIONS = tuple(_KINDS)
