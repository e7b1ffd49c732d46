"""Language models over a fixed window of tokens."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab.models.mlp import token_ids, token_rows
from logitlab.models.norms import FakeLayerNorm


class WindowMLP(nn.Module):
    r"""Logits [..., C] of the next token from the tokens [..., T] before it.

    .. math:: h = \tanh(W_1 e + b_1), \quad z = W_3 (h + g(W_2 h + b_2)) + b_3

    with e the embeddings of the T tokens side by side and g the GELU. Far cheaper on a
    CPU than a transformer that predicts as well.

    Fields:
      vocabulary: how many tokens there are.
      classes: how many logits, C.
      width: of both hidden layers, H.
      embedding: of a token, F.
      param_dtype: of the parameters, also under x64.

    The parameters are V F + (T F + 1) H + (H + 1) H + (H + 1) C in number. Weights
    start from centred normals of deviation 0.3 (embedding), 1 / sqrt(0.09 T F),
    1.4 / sqrt(H) and 0.1 / sqrt(H); biases from 0.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.language import WindowMLP
    >>> model = WindowMLP(vocabulary=256, classes=256, width=8)
    >>> tokens = jnp.zeros((2, 16), jnp.uint8)
    >>> params = model.init(jax.random.key(0), tokens)
    >>> sum(a.size for a in jax.tree.leaves(params))
    8528
    """

    vocabulary: int
    classes: int
    width: int
    embedding: int = 16
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Returns logits, in the dtype of the parameters.

        Raises:
          TypeError: ``x`` is not integer.
          ValueError: a token is outside [0, vocabulary); under ``jit``, where values
            are unknown, such a token makes its logits NaN.
        """
        ids = token_ids(x, self.vocabulary)
        e = token_rows(_embedding(self, 0.3, self.vocabulary, self.embedding), ids)
        e = e.reshape(*ids.shape[:-1], -1)
        into = _dense(self, self.width, (0.09 * e.shape[-1]) ** -0.5, "hidden_0")
        h = jnp.tanh(into(e))
        across = _dense(self, self.width, 1.4 * self.width**-0.5, "hidden_1")
        h += nn.gelu(across(h))
        return _dense(self, self.classes, 0.1 * self.width**-0.5, "head")(h)


class CausalTransformer(nn.Module):
    """Logits [..., T, C] at every position, from the tokens [..., T] up to it.

    Pre-norm, with learned positions, GELU units four times the width and a head of its
    own, in GPT-2's way: weights start from N(0, 0.02^2), those that write to the
    residual stream divided by the square root of their number.

    Fields:
      vocabulary: how many tokens there are.
      classes: how many logits, C.
      width: of the residual stream, a multiple of ``heads``.
      layers: how many, each of attention and units.
      heads: of the attention.
      context: the most tokens there are positions for.
      dtype: what everything before the head computes in; by default the dtype of the
        parameters. Softmax and normalisation use at least float32.
      param_dtype: of the parameters, also under x64.
      norms: "layer"; or "fake", :class:`FakeLayerNorm` with the same parameters, for
        taking the norms from a trained model by a ``LnRemovalSchedule``; or "none", for
        what ``fold_layer_norm`` makes of that.

    The stream before the last norm is sown as "residual" of the collection
    "intermediates".

    Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.language import CausalTransformer
    >>> model = CausalTransformer(vocabulary=5, classes=5, width=8, layers=1, heads=2)
    >>> tokens = jnp.array([[0, 1, 2]])
    >>> variables = jax.jit(model.init)(jax.random.key(0), tokens)
    >>> jax.jit(model.apply)(variables, tokens).shape
    (1, 3, 5)
    """

    vocabulary: int
    classes: int
    width: int
    layers: int = 4
    heads: int = 4
    context: int = 256
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    norms: Literal["layer", "fake", "none"] = "layer"

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Returns logits, float32 (float64 if the parameters are), whatever ``dtype``.

        Raises:
          TypeError: ``x`` is not integer.
          ValueError: ``heads`` does not divide ``width``, ``norms`` is unknown, there
            are more tokens than ``context``, or a token is outside [0, vocabulary);
            under ``jit``, where values are unknown, such a token makes the logits from
            it on NaN.
        """
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, expected a divisor of width {self.width}"
            )
        if self.norms not in ("layer", "fake", "none"):
            raise ValueError(
                f"norms is {self.norms!r}, expected 'layer', 'fake' or 'none'"
            )
        ids = token_ids(x, self.vocabulary)
        length = ids.shape[-1]
        if length > self.context:
            raise ValueError(f"x has {length} tokens, expected at most {self.context}")
        h = token_rows(_embedding(self, 0.02, self.vocabulary, self.width), ids)
        places = _embedding(self, 0.02, self.context, self.width, "positions")[:length]
        h += jnp.expand_dims(places, range(h.ndim - 2))
        h = h if self.dtype is None else h.astype(self.dtype)
        writes = 0.02 * (2 * self.layers) ** -0.5
        for i in range(self.layers):
            seen = _norm(self, f"attention_norm_{i}", readers=2)(h)
            into = _dense(self, 3 * self.width, 0.02, f"attention_in_{i}")
            if self.norms == "fake":  # what values read may be normed otherwise
                packed, values = into(jnp.stack(seen))
                parts = packed[..., : 2 * self.width], values[..., 2 * self.width :]
                packed = jnp.concatenate(parts, -1)
            else:
                packed = into(seen)
            shape = (*h.shape[:-1], 3, self.heads, self.width // self.heads)
            query, key, value = jnp.moveaxis(packed.reshape(shape), -3, 0)
            mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
            out = _dense(self, self.width, writes, f"attention_out_{i}")
            h += out(mixed.reshape(h.shape))
            seen = _norm(self, f"units_norm_{i}")(h)
            units = nn.gelu(_dense(self, 4 * self.width, 0.02, f"units_in_{i}")(seen))
            h += _dense(self, self.width, writes, f"units_out_{i}")(units)
        self.sow("intermediates", "residual", h)  # kept for those who ask for it
        h = _norm(self, "head_norm")(h)
        h = h.astype(jnp.promote_types(h.dtype, jnp.float32))
        return nn.Dense(
            self.classes,
            kernel_init=nn.initializers.normal(0.02),
            param_dtype=self.param_dtype,
            name="head",
        )(h)


def _embedding(model, deviation, rows, width, name="embedding"):
    init = nn.initializers.normal(deviation)
    return model.param(name, init, (rows, width), model.param_dtype)


def _dense(model, features, deviation, name):
    return nn.Dense(
        features,
        kernel_init=nn.initializers.normal(deviation),
        dtype=getattr(model, "dtype", None),
        param_dtype=model.param_dtype,
        name=name,
    )


def _norm(model, name, readers=1):
    if model.norms == "none":
        return lambda h: h
    dtypes = dict(dtype=model.dtype, param_dtype=model.param_dtype)
    if model.norms == "layer":
        return nn.LayerNorm(use_fast_variance=False, **dtypes, name=name)
    return FakeLayerNorm(
        readers, first_token_special=True, epsilon=1e-6, **dtypes, name=name
    )
