"""A small convolutional network for images of a few thousand pixels."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike


class SmallCNN(nn.Module):
    """Images [N, H, W] or [N, H, W, D] to logits [N, C].

    A 3 x 3 convolution, ReLU and 2 x 2 mean pooling for each width, then the mean over
    what is left of the image and a linear read-out.

    Fields:
      widths: channels of the convolutions.
      classes: how many logits, C.

    The mean over the image after each stage is sown as "pooled" of the collection
    "intermediates": the features of ``uskd_loss`` are those of the last stage but one.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.cnn import SmallCNN
    >>> import jax
    >>> model = SmallCNN(widths=(4,), classes=3)
    >>> model.init_with_output(jax.random.key(0), jnp.zeros((2, 8, 8)))[0].shape
    (2, 3)
    """

    widths: Sequence[int]
    classes: int

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Returns logits, float32.

        Raises:
          ValueError: ``x`` is no image, or too small to be pooled so often.
        """
        x = jnp.asarray(x)
        halvings = len(self.widths)
        sides = x.shape[1:3]
        if x.ndim not in (3, 4) or min(sides) < 2**halvings:
            raise ValueError(
                f"x has shape {x.shape}, expected [N, H, W] or [N, H, W, D], sides "
                f"that can be halved {halvings} times"
            )
        x = x[..., None] if x.ndim == 3 else x
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
            self.sow("intermediates", "pooled", x.mean((-3, -2)))
        return nn.Dense(self.classes, name="head")(x.mean((-3, -2)))
