"""How much each pair of a batch weighs in a loss of pairs: general pair weighting."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._triplets import triplet_sums
from logitlab.numerics.arguments import hyper

__all__ = ["gpw_weights"]

Kind = Literal[
    "multi_similarity",
    "contrastive",
    "triplet",
    "binomial_deviance",
    "lifted_structure",
]


def gpw_weights(
    similarities: ArrayLike,
    pairs: tuple[ArrayLike, ArrayLike],
    *,
    kind: Kind,
    margin: ArrayLike = 0.5,
    alpha: ArrayLike = 2.0,
    beta: ArrayLike = 50.0,
    base: ArrayLike = 0.5,
) -> jax.Array:
    r"""Weights of general pair weighting (GPW): slopes of a loss in similarities.

    Use it to see, or to plot, what a loss of pairs learns from. Positives are pulled
    and negatives pushed with

    .. math:: w_{ij} = \Bigl|\frac{\partial}{\partial s_{ij}} \sum_i \ell_i\Bigr|

    where the loss of an anchor is

    * ``multi_similarity``: that of ``losses.multi_similarity_loss``;
    * ``contrastive``: :math:`\sum_p (1 - s_p) + \sum_n [s_n - m]_+`, in similarities
      rather than distances, whose weights are 1 or 0;
    * ``triplet``: :math:`\sum_{p, n} [s_n - s_p + m]_+`, whose weights count triplets;
    * ``binomial_deviance``: :math:`\frac1{|P|} \sum_p \log(1 + e^{-\alpha (s_p -
      \lambda)}) + \frac1{|N|} \sum_n \log(1 + e^{\beta (s_n - \lambda)})`;
    * ``lifted_structure``: :math:`[\log \sum_p e^{-s_p} + \log \sum_n e^{s_n} + m]_+`.

    Losses that are means over B anchors have weights B times as small.

    Shapes: similarities [B, M], pairs [B, M] -> [B, M]

    Args:
      similarities: of anchors and references.
      pairs: two bool arrays [B, M], which pairs are positive and which negative, such
        as ``targets.label_pairs(labels)`` or a miner's. Of others the similarity may be
        anything.
      kind: of the loss.
      margin: m, of the hinges.
      alpha: sharpness among positives, above 0.
      beta: sharpness among negatives, above 0.
      base: lambda.

    Returns:
      At least 0, and 0 where there is no pair; float32 (float64 for float64).

    Raises:
      TypeError: similarities are not floating point or pairs not bool.
      ValueError: the shapes disagree, ``kind`` is unknown, or ``alpha`` or ``beta`` is
        not above 0.

    Numerics: equal to the slopes to 1e-12 in float64; relative error below 1e-5 of
      exponents up to 80 in float32.

    Source: Wang et al. 2019, arXiv:1904.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import gpw_weights
    >>> s, same = jnp.float32([[1, 0.4, 0.7]]), jnp.array([[True, True, False]])
    >>> print(gpw_weights(s, (same, ~same), kind="triplet"))
    [[1. 1. 2.]]
    """
    s = numerics.promote_to_float32(similarities, "similarities")
    positive, negative = (
        numerics.check_mask(array, s.shape, f"pairs.{name}")
        for name, array in zip(("positive", "negative"), pairs, strict=True)
    )
    s = jnp.where(positive | negative, s, 0)
    margin, base = (
        hyper(n, v, s.dtype) for n, v in (("margin", margin), ("base", base))
    )
    alpha, beta = (
        hyper(name, value, s.dtype, lambda v: v > 0, "above 0")
        for name, value in (("alpha", alpha), ("beta", beta))
    )
    pull, push = -alpha * (s - base), beta * (s - base)
    if kind == "multi_similarity":
        pulls, pushes = _share(pull, positive), _share(push, negative)
    elif kind == "contrastive":
        pulls, pushes = jnp.ones_like(s), (s > margin).astype(s.dtype)
    elif kind == "triplet":

        def total(s):
            return jnp.sum(triplet_sums(-s, positive, negative, margin)[0])

        pulls = pushes = jnp.abs(jax.grad(total)(s))
    elif kind == "binomial_deviance":
        pulls = alpha * numerics.sigmoid(pull) / _count(positive, s.dtype)
        pushes = beta * numerics.sigmoid(push) / _count(negative, s.dtype)
    elif kind == "lifted_structure":
        far = numerics.logsumexp(-s, where=positive)
        near = numerics.logsumexp(s, where=negative)
        violated = ((far + near + margin) > 0)[:, None]
        pulls = jnp.where(violated, numerics.softmax(-s, where=positive), 0)
        pushes = jnp.where(violated, numerics.softmax(s, where=negative), 0)
    else:
        raise ValueError(f"kind is {kind!r}, expected one of {Kind.__args__}")
    return jnp.where(positive, pulls, jnp.where(negative, pushes, 0))


def _share(x, where):
    """Of each exponential in their sum and 1."""
    total = jax.nn.softplus(numerics.logsumexp(x, where=where))
    return jnp.exp(jnp.where(where, x, -jnp.inf) - total[:, None])


def _count(where, dtype):
    return jnp.maximum(jnp.sum(where, -1, keepdims=True, dtype=dtype), 1)
