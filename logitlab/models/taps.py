"""What goes on inside of Flax models: inputs of linear layers, parts of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from logitlab.models.language import CausalTransformer
from logitlab.models.mlp import token_ids, token_rows

__all__ = ["apply_with_taps", "residual_parts"]


def apply_with_taps(
    model: nn.Module,
    variables: Any,
    taps: Mapping[str, jax.Array] | None,
    *args: Any,
    method: str | None = None,
) -> tuple[Any, dict[str, tuple[jax.Array, jax.Array]]]:
    """What a Flax model returns, and what went into and came out of its linear layers.

    Use it for what needs gradients of pre-activations, such as ``metrics.ekfac_fit``:
    that of a tap of zeros is one, by ``jax.vjp``, and the model stays as it is.

    A linear layer is a module that owns a kernel [I, O], alone or with a bias [O], and
    is called with floats [..., I]: ``nn.Dense`` and what is like it. Other layers,
    such as convolutions, embeddings and norms, have no taps; their parameters are held
    fixed in influence functions.

    Args:
      model: a Flax module.
      variables: of it, ``{"params": ...}``.
      taps: name of a layer -> what is added to its pre-activations; None, or a layer
        that is not named, adds nothing.
      *args: what the model is called with.
      method: which of its methods is called; by default the call.

    Returns:
      The model's result, and layer name ("hidden_0", "block/Dense_0") -> (inputs,
      pre-activations with the tap).

    Raises:
      ValueError: a tap is of no layer, or a layer is called more than once, so that its
        gradients would be of several places.

    Source: kronfluence's layers, Grosse et al. 2023, arXiv:2308.03296.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab import models
    >>> model = models.MLP(widths=(4,), classes=3)
    >>> x = jnp.ones((2, 5))
    >>> variables = model.init(jax.random.key(0), x)
    >>> logits, layers = models.apply_with_taps(model, variables, None, x)
    >>> {name: (a.shape, s.shape) for name, (a, s) in layers.items()}
    {'hidden_0': ((2, 5), (2, 4)), 'head': ((2, 4), (2, 3))}
    """
    taps, layers = taps or {}, {}

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        module = context.module
        if context.method_name != "__call__" or not _is_linear(module, args, out):
            return out
        name = "/".join(module.path)
        if name in layers:
            raise ValueError(f"layer {name!r} is called twice, expected once")
        if name in taps:
            out = out + taps[name]
        layers[name] = args[0], out
        return out

    with nn.intercept_methods(intercept):
        result = model.apply(variables, *args, method=method)
    if unknown := sorted(set(taps) - set(layers)):
        raise ValueError(f"taps has {unknown}, expected some of {sorted(layers)}")
    return result, layers


def residual_parts(
    model: CausalTransformer, variables: Any, x: ArrayLike
) -> dict[str, jax.Array]:
    """What each part of a transformer writes to the stream that its last norm reads.

    Use it with ``metrics.direct_logit_attribution``, which says how much of each logit
    a part has written.

    Args:
      model: with any ``norms``.
      variables: of it.
      x: int tokens [..., T].

    Returns:
      Name of the part ("embedding", "positions", "attention_0/head_1",
      "attention_0/bias", "units_0") -> [..., T, D]. Their sum is the stream.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab import models
    >>> model = models.CausalTransformer(5, 5, width=8, layers=1, heads=2)
    >>> tokens = jnp.array([[0, 1, 2]])
    >>> variables = model.init(jax.random.key(0), tokens)
    >>> list(models.residual_parts(model, variables, tokens))[2:]
    ['attention_0/head_0', 'attention_0/head_1', 'attention_0/bias', 'units_0']
    """
    _, layers = apply_with_taps(model, variables, None, x)
    params = variables["params"]
    embedded = token_rows(params["embedding"], token_ids(x, model.vocabulary))
    places = params["positions"][: embedded.shape[-2]]
    places = jnp.expand_dims(places, range(embedded.ndim - 2))
    parts = {
        "embedding": embedded,
        "positions": jnp.broadcast_to(places, embedded.shape),
    }
    for i in range(model.layers):
        mixed, _ = layers[f"attention_out_{i}"]
        own = params[f"attention_out_{i}"]
        kernel = own["kernel"].reshape(model.heads, -1, model.width)
        mixed = mixed.reshape(*mixed.shape[:-1], model.heads, -1)
        for head in range(model.heads):
            parts[f"attention_{i}/head_{head}"] = mixed[..., head, :] @ kernel[head]
        bias = jnp.expand_dims(own["bias"], range(embedded.ndim - 1))
        parts[f"attention_{i}/bias"] = jnp.broadcast_to(bias, embedded.shape)
        parts[f"units_{i}"] = layers[f"units_out_{i}"][1]
    return parts


def _is_linear(module, args, out):
    params = module.variables.get("params", {})
    if not {"kernel"} <= set(params) <= {"kernel", "bias"} or len(args) != 1:
        return False
    x, kernel = args[0], params["kernel"]
    if not hasattr(kernel, "ndim") or not hasattr(out, "shape"):
        return False
    return (
        kernel.ndim == 2
        and jnp.issubdtype(jnp.result_type(x), jnp.floating)
        and (jnp.shape(x)[-1:], out.shape[-1:]) == (kernel.shape[:1], kernel.shape[1:])
    )
