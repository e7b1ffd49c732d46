"""Logits of a head, with and without the lengths of features and classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.transforms.similarities import cosine_logits

__all__ = ["angle_norm_logits"]


def angle_norm_logits(
    features: ArrayLike, kernel: ArrayLike, *, scale: ArrayLike = 10.0
) -> tuple[jax.Array, jax.Array]:
    r"""Logits of one head by angle alone, and by angle and norm.

    Use it for ``losses.uer_loss``: new classes of a stream cannot grow long weights
    where they are learned by their angles.

    .. math:: \gamma \cos\theta_c, \quad \|h\| \, \|w_c\| \cos\theta_c

    The scale is inferred: the paper was not readable in full.

    Shapes: features [..., D], kernel [D, C] -> [..., C], [..., C]

    Args:
      features: of the last hidden layer; zeros give logits of 0.
      kernel: one column for each class.
      scale: :math:`\gamma`, above 0.

    Returns:
      Cosine logits and linear ones, float32 (float64 for float64); predict with the
      linear ones.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the kernel has not two axes or another width, or ``scale`` is not
        above 0.

    Numerics: as for ``cosine_logits``.

    Source: UER, Lin et al. 2023, arXiv:2309.04081.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import angle_norm_logits
    >>> cosine, linear = angle_norm_logits(jnp.float32([3, 4]), 2 * jnp.eye(2))
    >>> print(linear, f"{cosine[0]:.4f} {cosine[1]:.4f}")
    [6. 8.] 6.0000 8.0000
    """
    cosine = cosine_logits(features, kernel, scale=scale)
    linear = numerics.promote_to_float32(features) @ numerics.promote_to_float32(kernel)
    return cosine, jnp.asarray(linear, cosine.dtype)
