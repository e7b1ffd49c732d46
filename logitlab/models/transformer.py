"""A transformer of one layer."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab.models.mlp import token_ids, token_rows, torch_linear_init


class OneLayerTransformer(nn.Module):
    r"""Encoder layer over tokens [..., T], read out at the last one: logits [..., C].

    .. math:: h = \mathrm{norm}(e_T + \mathrm{attention}(e)_T), \qquad
        z = W \, \mathrm{norm}(h + \mathrm{feedforward}(h)) + b

    PyTorch's ``TransformerEncoderLayer`` as it comes, initial weights included:
    normalisation after each sum, ReLU. There is no positional encoding, so the order of
    the tokens before the last does not matter. Past the attention only the last
    position is computed, as nobody reads the others.

    Fields:
      vocabulary: how many tokens there are; the embedding starts from N(0, 1).
      classes: how many logits, C.
      d_model: width of the embedding and of every position.
      heads: of the attention, must divide ``d_model``.
      feedforward: units of the feed-forward layer.
      dropout: rate, on attention weights, on both summands and on the feed-forward
        units.
      dtype: what everything before the read-out computes in; by default the dtype of
        the parameters. Softmax and normalisation use at least float32.
      param_dtype: of the parameters, also under x64.

    Source: figure 6 of Prieto et al. 2025, arXiv:2501.04697, ``vocabulary=113``.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.transformer import OneLayerTransformer
    >>> model = OneLayerTransformer(vocabulary=5, classes=3, feedforward=16)
    >>> tokens = jnp.array([[0, 1], [4, 4]])
    >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
    >>> jax.jit(model.apply)(variables, tokens).shape
    (2, 3)
    """

    vocabulary: int
    classes: int
    d_model: int = 128
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.1
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: ArrayLike, *, deterministic: bool = True) -> Array:
        """Returns logits, float32 (float64 if the parameters are), whatever ``dtype``.

        Args:
          x: int tokens.
          deterministic: False drops units and needs ``rngs={"dropout": key}``.

        Raises:
          TypeError: ``x`` is not integer.
          ValueError: ``heads`` does not divide ``d_model``, ``dropout`` is outside of
            [0, 1), or a token is outside [0, vocabulary); under ``jit``, where values
            are unknown, such a token makes its logits NaN.
        """
        if self.heads < 1 or self.d_model % self.heads:
            raise ValueError(
                f"heads is {self.heads}, expected a divisor of d_model {self.d_model}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected it in [0, 1)")
        ids = token_ids(x, self.vocabulary)
        embedding = self.param(
            "embedding",
            nn.initializers.normal(1.0),
            (self.vocabulary, self.d_model),
            self.param_dtype,
        )
        dtype = embedding.dtype if self.dtype is None else self.dtype
        x = token_rows(embedding.astype(dtype), ids)
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        # The default variance, E[x^2] - E[x]^2, cancels where x is far from 0.
        norm = functools.partial(
            nn.LayerNorm, epsilon=1e-5, use_fast_variance=False, **dtypes
        )
        drop = nn.Dropout(self.dropout, deterministic=deterministic)  # new at each call

        attention = _LastAttention(self.heads, drop, **dtypes, name="attention")
        x = norm(name="attention_norm")(x[..., -1, :] + drop(attention(x)))
        into = _linear(self.d_model, self.feedforward, "feedforward_in", **dtypes)
        out = _linear(self.feedforward, self.d_model, "feedforward_out", **dtypes)
        hidden = drop(out(drop(nn.relu(into(x)))))
        x = norm(name="feedforward_norm")(x + hidden)
        head = _linear(self.d_model, self.classes, "head", param_dtype=self.param_dtype)
        return head(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


class _LastAttention(nn.Module):
    """What the last position gets from attending to all: [..., T, F] -> [..., F]."""

    heads: int
    drop: nn.Dropout
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        # One matrix for all three, whose bounds PyTorch takes from its packed shape.
        packed = nn.Dense(
            3 * width,
            kernel_init=nn.initializers.xavier_uniform(),
            **dtypes,
            name="in_proj",
        )
        packed = packed(x).reshape(*x.shape[:-1], 3, self.heads, width // self.heads)
        query, key, value = (packed[..., i, :, :] for i in range(3))
        query = query[..., -1, :, :] / math.sqrt(query.shape[-1])
        scores = jnp.einsum("...hd,...thd->...ht", query, key)
        wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        weights = self.drop(jax.nn.softmax(wide).astype(scores.dtype))
        x = jnp.einsum("...ht,...thd->...hd", weights, value)
        x = x.reshape(*x.shape[:-2], width)
        out = nn.Dense(
            width, kernel_init=torch_linear_init(), **dtypes, name="out_proj"
        )
        return out(x)


def _linear(inputs, outputs, name, **dtypes):
    init = torch_linear_init(inputs)
    return nn.Dense(outputs, kernel_init=init, bias_init=init, **dtypes, name=name)
