"""A small vision transformer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike


class SmallViT(nn.Module):
    r"""Images [N, H, W] or [N, H, W, D] to logits [N, C], by attention over patches.

    Use it beside ``SmallCNN`` to see whether a loss depends on the architecture.

    .. math:: h_0 = (c, \, W_p p_1, \dots, W_p p_T) + e, \quad
        h' = h + \mathrm{attention}(\mathrm{norm}(h)), \quad
        h'' = h' + \mathrm{units}(\mathrm{norm}(h')), \quad
        z = W \, \mathrm{norm}(h_L)_c + b

    with the pixels p of the T patches, a class token c that is read at the end, and
    learned positions e. Pre-norm blocks, GELU units ``expansion`` times the width;
    weights start from N(0, 0.02^2), the patches' from LeCun's normal, biases from 0.

    Fields:
      classes: how many logits, C.
      patch: side of the square patches, must divide H and W.
      width: of the tokens, a multiple of ``heads``.
      layers: how many blocks.
      heads: of the attention.
      expansion: hidden units of a block, as a multiple of ``width``.
      dtype: what everything before the head computes in; parameters are float32.

    The class token after each block is sown as "class_token" of the collection
    "intermediates": the features of ``uskd_loss`` are those of a middle block.

    Source: ViT, Dosovitskiy et al. 2020, arXiv:2010.11929.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.vit import SmallViT
    >>> model = SmallViT(classes=3, patch=4, width=8, layers=1, heads=2)
    >>> images = jnp.zeros((2, 8, 8))
    >>> jax.jit(model.init_with_output)(jax.random.key(0), images)[0].shape
    (2, 3)
    """

    classes: int
    patch: int = 2
    width: int = 32
    layers: int = 2
    heads: int = 4
    expansion: int = 2
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Returns logits, float32.

        Raises:
          ValueError: ``x`` is no image, ``patch`` does not divide its sides, or
            ``heads`` does not divide ``width``.
        """
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, expected a divisor of width {self.width}"
            )
        h = self._tokens(jnp.asarray(x))
        for i in range(self.layers):
            seen = self._norm(f"attention_norm_{i}")(h)
            packed = self._dense(3 * self.width, f"attention_in_{i}")(seen)
            shape = (*h.shape[:2], 3, self.heads, self.width // self.heads)
            query, key, value = jnp.moveaxis(packed.reshape(shape), -3, 0)
            mixed = jax.nn.dot_product_attention(query, key, value)
            h += self._dense(self.width, f"attention_out_{i}")(mixed.reshape(h.shape))
            seen = self._norm(f"units_norm_{i}")(h)
            hidden = self._dense(self.expansion * self.width, f"units_in_{i}")(seen)
            h += self._dense(self.width, f"units_out_{i}")(nn.gelu(hidden))
            self.sow("intermediates", "class_token", h[:, 0])
        read = self._norm("head_norm")(h[:, 0]).astype(jnp.float32)
        init = nn.initializers.normal(0.02)
        return nn.Dense(self.classes, kernel_init=init, name="head")(read)

    def _tokens(self, x):
        """The class token and the patches, with their positions: [N, 1 + T, F]."""
        side = self.patch
        if x.ndim not in (3, 4) or side < 1 or any(n % side for n in x.shape[1:3]):
            raise ValueError(
                f"x has shape {x.shape}, expected [N, H, W] or [N, H, W, D], sides "
                f"that patches of {side} divide"
            )
        x = x[..., None] if x.ndim == 3 else x
        x = x if self.dtype is None else x.astype(self.dtype)
        count, height, width, depth = x.shape
        x = x.reshape(count, height // side, side, width // side, side, depth)
        x = x.swapaxes(2, 3).reshape(count, -1, side * side * depth)
        h = nn.Dense(self.width, dtype=self.dtype, name="patches")(x)
        init = nn.initializers.normal(0.02)
        token = self.param("class_token", init, (1, 1, self.width)).astype(h.dtype)
        h = jnp.concatenate([jnp.broadcast_to(token, (count, 1, self.width)), h], 1)
        places = self.param("positions", init, (1, h.shape[1], self.width))
        return h + places.astype(h.dtype)

    def _dense(self, features, name):
        init = nn.initializers.normal(0.02)
        return nn.Dense(features, kernel_init=init, dtype=self.dtype, name=name)

    def _norm(self, name):
        return nn.LayerNorm(use_fast_variance=False, dtype=self.dtype, name=name)
