"""Contrastive learning with a temperature of each pair's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import (
    check_count,
    check_range,
    check_same_shape,
    hyper,
)

__all__ = ["adaptive_temperature", "amcl_simclr_loss"]


def adaptive_temperature(
    keys: ArrayLike,
    other_keys: ArrayLike,
    *,
    min_temperature: ArrayLike = 1e-5,
    max_temperature: ArrayLike = 2.0,
) -> jax.Array:
    r"""Learned temperatures of pairs, lower for pairs that look alike to a network.

    .. math:: \tau = \tau_{\min} + (\tau_{\max} - \tau_{\min}) \,
        \sigma(-\langle \varphi(e), \varphi(e') \rangle)

    Shapes: keys [..., K], other_keys [..., K] -> [...]

    Args:
      keys: what a network :math:`\varphi` makes of the normalized embeddings.
      other_keys: the same of those that they are paired with.
      min_temperature: above 0.
      max_temperature: at least as much.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a temperature is outside its range.

    Source: AMCL, 2023, arXiv:2310.05615; the authors' second release.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import adaptive_temperature
    >>> adaptive_temperature(jnp.zeros(3), jnp.ones(3), min_temperature=0.5)
    Array(1.25, dtype=float32)
    """
    a = numerics.promote_to_float32(keys, "keys")
    b = numerics.promote_to_float32(other_keys, "other_keys")
    check_same_shape("other_keys", b, "keys", a.shape)
    low, high = _bounds(min_temperature, max_temperature, a.dtype)
    return low + (high - low) * numerics.sigmoid(-jnp.sum(a * b, -1))


def amcl_simclr_loss(
    embeddings: ArrayLike,
    other_embeddings: ArrayLike,
    keys: ArrayLike,
    other_keys: ArrayLike,
    *,
    beta: ArrayLike = 1e-4,
    min_temperature: ArrayLike = 1e-5,
    max_temperature: ArrayLike = 2.0,
    negatives: int = 100,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Adaptive multi-head contrastive learning (AMCL) for SimCLR, one value per image.

    Use it when augmentations differ in strength, so that no single temperature suits
    all pairs. Its sum over heads of

    .. math:: -\frac{s_p}{\tau_p} + \operatorname*{mean}_n \frac{s_n}{\tau_n} +
        \beta \Bigl(\frac D2 \log \tau_p + \frac1{\tau_p}\Bigr) -
        \beta \sum_n \Bigl(\log \tau_n + \frac1{\tau_n}\Bigr)

    over the K most similar negatives n of the two views' other images is averaged over
    both views as anchors. There is no logarithm of a sum: the mean over n takes its
    place.

    Shapes: embeddings [B, H, D], other_embeddings [B, H, D], keys [B, H, K],
      other_keys [B, H, K] -> [B]

    Args:
      embeddings: of one view by each of H heads, of any length.
      other_embeddings: of the other view.
      keys: what the temperature network makes of the normalized embeddings, see
        ``adaptive_temperature``; it is shared by the heads.
      other_keys: the same of the other view.
      beta: weight of the regularizer; 1e-6 in the paper's Barlow twins.
      min_temperature: above 0. Without a bound below there is none of the loss: small
        experiments need about 0.05.
      max_temperature: at least as much.
      negatives: K, a Python number; all of them where there are fewer.
      mask: bool [B], the images that take part; the others cost 0.

    Returns:
      float32 (float64 for float64). Without other images the terms of negatives are 0.

    Raises:
      TypeError: an array is not floating point, ``mask`` not bool, or ``negatives`` no
        Python integer.
      ValueError: the shapes disagree, or a number is outside its range.

    Numerics: relative error below 1e-5 of the largest of the terms, given the
      similarities; a cosine's rounding comes on top, over the least temperature.

    Source: AMCL, 2023, arXiv:2310.05615; the authors' second release, whose regularizer
      of negatives lacks the factor D / 2.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import amcl_simclr_loss
    >>> e, keys = jnp.eye(2)[:, None], jnp.zeros((2, 1, 3))  # temperatures near 1
    >>> amcl_simclr_loss(e, e, keys, keys, beta=0.0).round(3)
    Array([-1., -1.], dtype=float32)
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if e.ndim != 3:
        raise ValueError(f"embeddings has shape {e.shape}, expected [B, H, D]")
    f = numerics.promote_to_float32(other_embeddings, "other_embeddings")
    check_same_shape("other_embeddings", f, "embeddings", e.shape)
    k = numerics.promote_to_float32(keys, "keys")
    if k.ndim != 3 or k.shape[:2] != e.shape[:2]:
        raise ValueError(
            f"keys has shape {k.shape}, expected ({e.shape[0]}, {e.shape[1]}, any "
            "width) as embeddings has"
        )
    m = numerics.promote_to_float32(other_keys, "other_keys")
    check_same_shape("other_keys", m, "keys", k.shape)
    check_count("negatives", negatives)
    keep = numerics.check_mask(mask, e.shape[:1])
    low, high = _bounds(min_temperature, max_temperature, e.dtype)
    beta = hyper("beta", beta, e.dtype)
    # Heads first, then both views, one after the other.
    rows, phi = (
        jnp.moveaxis(
            jnp.concatenate([jnp.where(keep[:, None, None], x, 0) for x in a]), 1, 0
        )
        for a in ((e, f), (k, m.astype(k.dtype)))
    )
    rows = unit(rows)
    s = rows @ jnp.swapaxes(rows, -1, -2)
    score = (phi @ jnp.swapaxes(phi, -1, -2)).astype(s.dtype)
    tau = low + (high - low) * numerics.sigmoid(-score)
    image = jnp.tile(jnp.arange(len(e)), 2)
    kept = jnp.tile(keep, 2)
    other_image = kept[:, None] & kept[None] & (image[:, None] != image[None])
    count = min(negatives, max(2 * len(e) - 2, 0))
    nearest, at = jax.lax.top_k(jnp.where(other_image[None], s, -jnp.inf), count)
    some = nearest > -jnp.inf
    s_n = jnp.where(some, nearest, 0)
    tau_n = jnp.where(some, jnp.take_along_axis(tau, at, -1), 1)
    number = jnp.maximum(jnp.sum(some, -1, dtype=s.dtype), 1)
    push = jnp.sum(s_n / tau_n, -1) / number
    bound = jnp.sum(jnp.where(some, jnp.log(tau_n) + 1 / tau_n, 0), -1)
    partner = jnp.roll(jnp.arange(2 * len(e)), len(e))
    s_p, tau_p = (
        jnp.take_along_axis(a, partner[None, :, None], -1)[..., 0] for a in (s, tau)
    )
    cost = beta * (e.shape[-1] / 2 * jnp.log(tau_p) + 1 / tau_p - bound)
    losses = jnp.sum(push - s_p / tau_p + cost, 0)
    return jnp.where(keep, jnp.mean(losses.reshape(2, len(e)), 0), 0)


def _bounds(low, high, dtype):
    check_range("min_temperature", low, lambda t: t > 0, "above 0")
    low, high = (
        hyper("min_temperature", low, dtype),
        hyper("max_temperature", high, dtype),
    )
    if numerics.is_concrete(low) and numerics.is_concrete(high) and (high < low).any():
        raise ValueError(
            f"max_temperature is {high}, expected at least min_temperature, {low}"
        )
    return low, high
