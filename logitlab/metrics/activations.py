"""Activations shaped before the head, so that unknown inputs score lower after it."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._quantiles import kept_quantile
from logitlab.numerics.arguments import check_range, hyper

__all__ = ["ash_features", "react_features", "react_threshold"]


def react_threshold(
    features: ArrayLike, *, quantile: float = 0.9, mask: ArrayLike | None = None
) -> jax.Array:
    """The quantile of all activations at which ``react_features`` clips.

    Shapes: features [..., D], mask [...] -> []

    Args:
      features: activations of the last hidden layer for examples that the model knows,
        all of them at once.
      quantile: in [0, 1].
      mask: bool, the examples that count; none at all give ``inf``, which clips
        nothing.

    Raises:
      TypeError: ``features`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``quantile`` is outside [0, 1].

    Source: ReAct, Sun et al. 2021, arXiv:2111.12797.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import react_threshold
    >>> react_threshold(jnp.arange(11.0)[None])
    Array(9., dtype=float32)
    """
    h = numerics.promote_to_float32(features, "features")
    check_range("quantile", quantile, lambda q: (q >= 0) & (q <= 1), "in [0, 1]")
    keep = numerics.check_mask(mask, h.shape[:-1])
    keep = jnp.broadcast_to(keep[..., None], h.shape)
    return kept_quantile(h, keep, jnp.asarray(quantile, h.dtype))


def react_features(features: ArrayLike, threshold: ArrayLike) -> jax.Array:
    r"""Activations clipped from above, for the head and one of the scores after it.

    .. math:: \min(h, c)

    Unknown inputs have a few very large activations, which drive their confidence.
    ``energy_score`` of the head's logits is the paper's choice.

    Shapes: features [..., D], threshold [] -> [..., D]

    Source: ReAct, Sun et al. 2021, arXiv:2111.12797.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import react_features
    >>> react_features(jnp.float32([1, 5]), 2.0)
    Array([1., 2.], dtype=float32)
    """
    h = numerics.promote_to_float32(features, "features")
    return jnp.minimum(h, hyper("threshold", threshold, h.dtype))


def ash_features(
    features: ArrayLike,
    *,
    prune: float = 0.9,
    kind: Literal["p", "b", "s"] = "s",
) -> jax.Array:
    r"""Keeps the largest activations of each example, for the head and a score.

    .. math:: h \odot m, \quad \frac{s_1}{k} m, \quad
        \text{or } e^{s_1 / s_2} \, h \odot m

    with m the mask of the k largest, :math:`s_1` the sum of all and :math:`s_2` that of
    the kept ones: pruned ("p"), binarized ("b") or scaled ("s").

    Shapes: features [..., D] -> [..., D]

    Args:
      features: activations of the last hidden layer, after a ReLU.
      prune: the share that is set to 0; at least one is kept.
      kind: what becomes of the rest.

    Raises:
      TypeError: ``features`` is not floating point.
      ValueError: ``prune`` is outside [0, 1), or ``kind`` is unknown.

    Source: ASH, Djurisic et al. 2022, arXiv:2209.09858.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import ash_features
    >>> ash_features(jnp.float32([4, 1, 3, 0]), prune=0.5, kind="b")
    Array([4., 0., 4., 0.], dtype=float32)
    """
    if kind not in ("p", "b", "s"):
        raise ValueError(f"kind is {kind!r}, expected 'p', 'b' or 's'")
    check_range("prune", prune, lambda p: (p >= 0) & (p < 1), "in [0, 1)")
    h = numerics.promote_to_float32(features, "features")
    k = max(h.shape[-1] - round(h.shape[-1] * prune), 1)
    at = jax.lax.top_k(h, k)[1]
    keep = jnp.put_along_axis(jnp.zeros(h.shape, bool), at, True, -1, inplace=False)
    kept, total = jnp.where(keep, h, 0), jnp.sum(h, -1, keepdims=True)
    if kind == "b":
        return jnp.where(keep, total / k, 0)
    if kind == "p":
        return kept
    rest = jnp.sum(kept, -1, keepdims=True)
    return kept * jnp.exp(total / jnp.where(rest > 0, rest, 1))
