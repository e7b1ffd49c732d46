"""Classifier-free guidance of two denoisers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_same_shape

__all__ = ["classifier_free_guidance"]


def classifier_free_guidance(
    cond: ArrayLike, uncond: ArrayLike, scale: ArrayLike
) -> jax.Array:
    r"""Classifier-free guidance of a denoiser's conditional output.

    Use it at sampling time, to follow the condition more closely.

    .. math:: u + \kappa (c - u)

    1 is no guidance. Few-step distillation trains against a teacher without guidance
    and an unconditional fake denoiser (Zero-CFG), or guides the fake one negatively
    (Anti-CFG, scale -1; the value is inferred).

    Shapes: cond [...], uncond [...], scale [] -> [...]

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Source: Ho and Salimans 2022, arXiv:2207.12598; few-step SiD, arXiv:2505.12674.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import classifier_free_guidance
    >>> classifier_free_guidance(jnp.float32([2]), jnp.float32([1]), -1.0)
    Array([0.], dtype=float32)
    """
    check_same_shape("uncond", uncond, "cond", jnp.shape(cond))
    c, u = (
        numerics.promote_to_float32(cond, "cond"),
        numerics.promote_to_float32(uncond, "uncond"),
    )
    return u + jnp.asarray(scale, c.dtype) * (c - u)
