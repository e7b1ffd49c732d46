"""Adversarial fine-tuning of two towers, of images and texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._relative_entropy import kl
from logitlab.numerics._lengths import length
from logitlab.numerics.arguments import check_same_shape, hyper, weighted

__all__ = ["advflyp_loss"]


def advflyp_loss(
    embeddings: ArrayLike,
    frozen_embeddings: ArrayLike,
    clean_embeddings: ArrayLike,
    text_embeddings: ArrayLike,
    *,
    temperature: ArrayLike,
    feature_weight: ArrayLike = 1.0,
    logit_weight: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Adversarial fine-tuning as in pre-training (AdvFLYP), one value per image.

    Use it when a contrastive model of images and texts is made robust and should stay
    as general as it was.

    .. math:: \ell_i = \tfrac12 (\mathrm{CE}^{\text{texts}}_i +
        \mathrm{CE}^{\text{images}}_i) +
        \lambda_f (\|a_i - a^0_i\| + \|a_i - c_i\|) +
        \lambda_\ell (\mathrm{KL}(P_{a_i} \| P_{a^0_i}) + \mathrm{KL}(P_{a_i} \|
        P_{c_i})), \quad P_x = \operatorname{softmax}_j(x^\top t_j / \tau)

    with both cross-entropies of the adversarial images a and their texts t, the frozen
    model's embeddings :math:`a^0` of the same inputs, and clean images c.

    Shapes: embeddings [B, D], frozen_embeddings [B, D], clean_embeddings [B, D],
      text_embeddings [B, D] -> [B]

    Args:
      embeddings: of adversarial images by the model that is tuned. All embeddings are
        taken as they are, of length 1 as such models make them.
      frozen_embeddings: of the same by the original model; no gradient.
      clean_embeddings: of clean images by the model that is tuned, with a gradient.
      text_embeddings: the texts of the images, in the same order.
      temperature: above 0, the inverse of CLIP's logit scale, 0.01 there.
      feature_weight: of the distances.
      logit_weight: of the divergences.
      mask: bool [B], the images and texts that take part; the others cost 0.

    Returns:
      Nats and lengths, float32 (float64 for float64). A distance of 0, as in the first
      step, has zero gradient.

    Raises:
      TypeError: an array is not floating point or ``mask`` not bool.
      ValueError: the shapes disagree or ``temperature`` is not above 0.

    Numerics: given the similarities, relative error below 1e-5 of the largest term,
      value and gradient.

    Source: AdvFLYP, 2026, arXiv:2604.11576.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import advflyp_loss
    >>> e = jnp.eye(2)
    >>> advflyp_loss(e, e, e, e, temperature=0.5).round(3)
    Array([0.127, 0.127], dtype=float32)
    """
    a = numerics.promote_to_float32(embeddings, "embeddings")
    if a.ndim != 2:
        raise ValueError(f"embeddings has shape {a.shape}, expected [B, D]")
    keep = numerics.check_mask(mask, a.shape[:1])
    rows = []
    for name, array in (
        ("embeddings", a),
        ("frozen_embeddings", frozen_embeddings),
        ("clean_embeddings", clean_embeddings),
        ("text_embeddings", text_embeddings),
    ):
        x = numerics.promote_to_float32(array, name)
        check_same_shape(name, x, "embeddings", a.shape)
        rows.append(jnp.where(keep[:, None], x.astype(a.dtype), 0))
    a, frozen, clean, texts = rows
    frozen = jax.lax.stop_gradient(frozen)
    t = hyper("temperature", temperature, a.dtype, lambda t: t > 0, "above 0")
    z, z_frozen, z_clean = (
        jnp.where(keep[None], x @ texts.T / t, -jnp.inf) for x in (a, frozen, clean)
    )
    own = jnp.arange(len(a))
    by_image = jnp.where(keep[None], z.T, -jnp.inf)
    nll = (numerics.label_nll(z, own) + numerics.label_nll(by_image, own)) / 2
    moved = length(a - frozen) + length(a - clean)
    drift = kl(z, z_frozen) + kl(z, z_clean)
    losses = (
        nll
        + weighted(feature_weight, moved, "feature_weight")
        + weighted(logit_weight, drift, "logit_weight")
    )
    return jnp.where(keep, losses, 0)
