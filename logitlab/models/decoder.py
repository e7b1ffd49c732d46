"""A decoder-only transformer for devices of any number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab.models.mlp import token_ids, token_rows


class HeadKernel(NamedTuple):
    """The kernel of a linear head, as the functions of :mod:`logitlab.heads` take it.

    Attributes:
      kernel: [D, V], or [V, D] if ``transposed``.
      transposed: whether it is an embedding table that is used again.
    """

    kernel: Array
    transposed: bool


class Decoder(nn.Module):
    r"""Logits [..., T, V] of the next token at every position: a LLaMA-style decoder.

    .. math:: h \leftarrow h + W_o \, \mathrm{attention}(\mathrm{norm}(h)), \qquad
        h \leftarrow h + W_d \, (\mathrm{silu}(W_g n) \odot W_u n), \;
        n = \mathrm{norm}(h)

    with root-mean-square norms, rotary positions and no biases. Use it for language
    models of any size: the layers are one scanned body, so that compile time does not
    grow with their number, and each is computed again for the gradient, so that memory
    holds one hidden state for a layer. :meth:`head` and ``features=True`` are what a
    head of :mod:`logitlab.heads` needs to train it without an array of all logits.

    Fields:
      vocabulary: how many tokens there are, V.
      width: of the residual stream, D.
      layers: how many, each of attention and a gated MLP.
      heads: of the attention; ``width / heads`` is the width of one, an even number.
      kv_heads: heads of keys and values, which ``heads / kv_heads`` queries share; by
        default as many as ``heads``.
      hidden: units of the MLP; by default 8/3 of the width, up to a multiple of 8.
      tied: whether the head is the embedding; otherwise it has a kernel of its own.
      rotary_base: of the wavelengths of positions; longer contexts take a larger one.
      dtype: what is computed in; by default the dtype of the parameters. Norms, softmax
        and the sums of logits use at least float32.
      param_dtype: of the parameters, also under x64.
      scan: one body for all layers, whose parameters are stacked in ``layers``; False
        makes ``layer_0``, ``layer_1``, ... of the same numbers.
      remat: whether layers are computed again for the gradient.
      layout: applied to the hidden states [..., T, D] before and after every layer,
        such as a ``jax.lax.with_sharding_constraint``; by default nothing.

    Weights start from N(0, 0.02^2), those that write to the residual stream divided by
    the square root of their number, ``2 * layers``.

    Source: LLaMA, Touvron et al. 2023, arXiv:2302.13971; rotary positions, Su et al.
      2021, arXiv:2104.09864; grouped heads, Ainslie et al. 2023, arXiv:2305.13245.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab import heads
    >>> from logitlab.models.decoder import Decoder
    >>> model = Decoder(vocabulary=11, width=8, layers=2, heads=2, kv_heads=1)
    >>> tokens = jnp.array([[0, 1, 2, 3]])
    >>> def loss(params):
    ...     variables = {"params": params}
    ...     hidden = model.apply(variables, tokens[:, :-1], features=True)
    ...     kernel, transposed = model.head(params)
    ...     return heads.fused_linear_cross_entropy(
    ...         hidden, kernel, tokens[:, 1:], transposed=transposed
    ...     )
    >>> params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    >>> jax.jit(loss)(params).shape
    (1, 3)
    """

    vocabulary: int
    width: int
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    hidden: int | None = None
    tied: bool = True
    rotary_base: float = 10_000.0
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    scan: bool = True
    remat: bool = True
    layout: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, x: ArrayLike, *, features: bool = False) -> Array:
        """Returns logits, float32 (float64 if computed in that), whatever ``dtype``.

        Args:
          x: int tokens [..., T].
          features: return what the head multiplies instead, [..., T, D] in ``dtype``.

        Raises:
          TypeError: ``x`` is not integer.
          ValueError: ``layers`` is below 1, ``heads`` does not divide ``width`` or
            leaves an odd width, ``kv_heads`` does not divide ``heads``, or a token is
            outside [0, vocabulary); under ``jit``, where values are unknown, such a
            token makes all results of its row NaN.
        """
        self._check()
        ids = token_ids(x, self.vocabulary)
        embedding = self._kernel("embedding", (self.vocabulary, self.width))
        h = self._laid_out(token_rows(self._cast(embedding), ids))
        h = self._through_layers(h)
        norm = nn.RMSNorm(
            epsilon=1e-5, dtype=h.dtype, param_dtype=self.param_dtype, name="norm"
        )
        h = norm(h)
        named = {"embedding": embedding}
        if not self.tied:
            named["head"] = self._kernel("head", (self.width, self.vocabulary))
        if features:
            return h
        kernel, transposed = self.head(named)
        kernel = kernel.T if transposed else kernel
        wide = jnp.promote_types(h.dtype, jnp.float32)
        return jnp.matmul(h, kernel, preferred_element_type=wide)

    @nn.nowrap
    def head(self, params: Mapping[str, Any]) -> HeadKernel:
        """The kernel of the head among ``params``, in the ``dtype`` of the features."""
        name = "embedding" if self.tied else "head"
        return HeadKernel(self._cast(params[name]), self.tied)

    @nn.nowrap
    def _check(self):
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}, expected at least 1")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, expected a divisor of width {self.width}"
            )
        if self.width // self.heads % 2:
            raise ValueError(
                f"width {self.width} and {self.heads} heads make heads of width "
                f"{self.width // self.heads}, expected an even one: rotary positions "
                "turn pairs"
            )
        if self.kv_heads is not None and (
            self.kv_heads < 1 or self.heads % self.kv_heads
        ):
            raise ValueError(
                f"kv_heads is {self.kv_heads}, expected a divisor of heads {self.heads}"
            )

    @nn.nowrap
    def _cast(self, array):
        dtype = jnp.result_type(array) if self.dtype is None else self.dtype
        return jnp.asarray(array, dtype)

    @nn.nowrap
    def _laid_out(self, h):
        return h if self.layout is None else self.layout(h)

    def _kernel(self, name, shape):
        init = nn.initializers.normal(0.02)
        return self.param(name, init, shape, self.param_dtype)

    def _through_layers(self, h):
        settings = dict(
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            hidden=self.hidden or -(-self.width // 3) * 8,
            rotary_base=self.rotary_base,
            writes=0.02 * (2 * self.layers) ** -0.5,
            dtype=h.dtype,
            param_dtype=self.param_dtype,
            layout=self._laid_out,
        )
        layer = _Layer
        if self.remat:  # a loop's body is not merged with its repetition anyway
            layer = nn.remat(layer, prevent_cse=not self.scan)
        if self.scan:
            stacked = nn.scan(
                layer,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.layers,
            )
            return stacked(**settings, name="layers")(h, None)[0]
        for i in range(self.layers):
            h, _ = layer(**settings, name=f"layer_{i}")(h, None)
        return h


class _Layer(nn.Module):
    """Attention and a gated MLP, each added to the hidden states [..., T, D]."""

    heads: int
    kv_heads: int
    hidden: int
    rotary_base: float
    writes: float
    dtype: DTypeLike
    param_dtype: DTypeLike
    layout: Callable[[Array], Array]

    @nn.compact
    def __call__(self, h, _):
        width = h.shape[-1]
        size = width // self.heads

        def split(x):
            return x.reshape(*x.shape[:-1], -1, size)

        seen = self._norm("attention_norm")(h)
        query = split(self._dense(width, "query")(seen))
        key = split(self._dense(self.kv_heads * size, "key")(seen))
        value = split(self._dense(self.kv_heads * size, "value")(seen))
        turn = _rotation(h.shape[-2], size, self.rotary_base, self.dtype)
        mixed = jax.nn.dot_product_attention(
            turn(query), turn(key), value, is_causal=True
        )
        out = self._dense(width, "out", self.writes)
        h = self.layout(h + out(mixed.reshape(h.shape)))
        seen = self._norm("mlp_norm")(h)
        gate = nn.silu(self._dense(self.hidden, "gate")(seen))
        units = gate * self._dense(self.hidden, "up")(seen)
        return self.layout(h + self._dense(width, "down", self.writes)(units)), None

    def _dense(self, features, name, deviation=0.02):
        return nn.Dense(
            features,
            use_bias=False,
            kernel_init=nn.initializers.normal(deviation),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def _norm(self, name):
        return nn.RMSNorm(
            epsilon=1e-5, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )


def _rotation(length, size, base, dtype):
    """Turns heads [..., T, N, size] by their positions: x_i with x_(i + size / 2)."""
    wide = jnp.promote_types(dtype, jnp.float32)
    half = jnp.arange(size // 2, dtype=wide)
    rates = jnp.asarray(base, wide) ** (-2 * half / size)
    angles = jnp.arange(length, dtype=wide)[:, None] * rates[None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]

    def turn(x):
        a, b = jnp.split(x.astype(wide), 2, -1)
        c, s = (jnp.expand_dims(t, range(x.ndim - 3)) for t in (cos, sin))
        return jnp.concatenate([a * c - b * s, b * c + a * s], -1).astype(dtype)

    return turn
