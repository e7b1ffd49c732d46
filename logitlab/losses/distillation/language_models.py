"""Distillation of language models: preferences, drafts, rationales."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import prepare_pair
from logitlab.losses.distillation._relative_entropy import cross
from logitlab.losses.distillation.divergences import (
    reverse_kl,
    total_variation_divergence,
)
from logitlab.numerics.arguments import check_range, check_same_shape, hyper, weighted
from logitlab.targets.teachers import compose_teacher_logits

__all__ = ["adaptive_weight", "aligndistil_loss", "online_distill_loss", "qcrd_loss"]


def adaptive_weight(
    dpo_logits: ArrayLike,
    ref_logits: ArrayLike,
    *,
    scale: ArrayLike,
    eps: ArrayLike = 1e-3,
    half: bool = True,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""AlignDistil's token weights: the total variation of two models, scaled.

    Use it as the extrapolation weight of ``targets.compose_teacher_logits``.

    .. math:: a = \text{scale} \cdot \tfrac12 \sum_c |p_c - q_c| + \epsilon

    Shapes: dpo_logits [..., C], ref_logits [..., C], where [..., C] -> [...]

    Args:
      dpo_logits: of p.
      ref_logits: of q.
      scale: the largest reward, 20 off-policy and 30 on-policy in the paper.
      eps: what is left where the two agree.
      half: False leaves out the factor 1/2, as the released code does (with half the
        scale).
      where: bool, the classes that take part.

    Returns:
      In [eps, scale + eps], a constant.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ.

    Source: AlignDistil, Zhang et al. 2025, arXiv:2503.02832.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import adaptive_weight
    >>> same = jnp.zeros(3)
    >>> adaptive_weight(same, same, scale=20.0)
    Array(0.001, dtype=float32)
    """
    check_same_shape("ref_logits", ref_logits, "dpo_logits", jnp.shape(dpo_logits))
    d = jax.lax.stop_gradient(numerics.promote_to_float32(dpo_logits, "dpo_logits"))
    distance = total_variation_divergence(d, ref_logits, where=where)
    scale, eps = hyper("scale", scale, d.dtype), hyper("eps", eps, d.dtype)
    loss = scale * (1 if half else 2) * distance + eps
    return jax.lax.stop_gradient(loss)


def aligndistil_loss(
    policy_logits: ArrayLike,
    dpo_logits: ArrayLike,
    reverse_dpo_logits: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    scale: ArrayLike = 20.0,
    eps: ArrayLike = 1e-3,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Token-level alignment as distillation of a policy, one value per token.

    Use it when a policy learns token by token from two DPO models.

    .. math:: \ell = \frac{\beta}{a} \mathrm{KL}(\mathrm{softmax}(z) \|
        \mathrm{softmax}(d + a (d - d^-))), \quad
        a = \text{scale} \cdot \mathrm{TV}(d, d^-) + \epsilon

    The reward of DPO, kept by a KL penalty, is a reverse divergence from this teacher;
    a and the teacher are constants. Take the mean over a sequence's tokens, then over
    the batch; a token's logits are those that predict it. Where d and :math:`d^-` agree
    the factor is :math:`\beta / \epsilon`.

    Shapes: policy_logits [..., C], dpo_logits [..., C], reverse_dpo_logits [..., C], where [..., C] -> [...]

    Args:
      policy_logits: z; ``-inf`` is the same as ``where=False``.
      dpo_logits: d, of the model trained by DPO; no gradient.
      reverse_dpo_logits: of the one trained with chosen and rejected swapped.
      beta: the :math:`\beta` of DPO.
      scale: the largest reward. The released code, without the 1/2 of the distance, has
        half of it.
      eps: positive, the least a.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or ``eps`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: AlignDistil, Zhang et al. 2025, arXiv:2503.02832.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import aligndistil_loss
    >>> same = jnp.float32([2, 1])
    >>> aligndistil_loss(same, same, same)
    Array(0., dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    check_range("eps", eps, lambda e: e > 0, "positive")
    check_same_shape(
        "dpo_logits", dpo_logits, "policy_logits", jnp.shape(policy_logits)
    )
    check_same_shape(
        "reverse_dpo_logits",
        reverse_dpo_logits,
        "policy_logits",
        jnp.shape(policy_logits),
    )
    z, d, other = (
        numerics.prepare_logits(logits, axis=axis, where=where, name=name)
        for logits, name in (
            (policy_logits, "policy_logits"),
            (dpo_logits, "dpo_logits"),
            (reverse_dpo_logits, "reverse_dpo_logits"),
        )
    )
    shown = z > -jnp.inf  # what the policy hides, nobody has
    a = adaptive_weight(d, other, scale=scale, eps=eps, where=shown)
    loss = reverse_kl(z, compose_teacher_logits(d, other, weight=a))
    return weighted(hyper("beta", beta, z.dtype) / a, loss)


def online_distill_loss(
    draft_logits: ArrayLike,
    target_logits: ArrayLike,
    draft_features: ArrayLike,
    target_features: ArrayLike,
    *,
    logit_weight: ArrayLike = 0.1,
    feature_weight: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Training of a draft model while its target runs, one value per token.

    Use it when you train a draft model for speculative decoding while its target runs.

    .. math:: \ell = -\lambda_z \sum_c p_c \log q_c +
        \lambda_f \frac1D \sum_i h(f^q_i - f^p_i)

    with p the target's and q the draft's softmax, at temperature 1, their features
    before the shared head, and h the smooth absolute value (a square over 2 below 1).

    Shapes: draft_logits [..., C], target_logits [..., C], draft_features [..., D], target_features [..., D], where [..., C] -> [...]

    Args:
      draft_logits: scores; ``-inf`` is the same as ``where=False``.
      target_logits: of the same tokens; no gradient.
      draft_features: of the draft's last layer.
      target_features: of the target's; no gradient.
      logit_weight: of the cross-entropy.
      feature_weight: of the regression.
      axis: the class axis of the logits; features are on the last one.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: an array is not floating point or ``where`` is not bool.
      ValueError: shapes that do not fit.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: SpecVLM, Huang et al. 2025, arXiv:2509.11815.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import online_distill_loss
    >>> z, f = jnp.zeros(2), jnp.zeros(3)
    >>> online_distill_loss(z, z, f, f + 2, logit_weight=1.0)
    Array(2.1931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    check_same_shape(
        "target_features",
        target_features,
        "draft_features",
        jnp.shape(draft_features),
    )
    z, t = prepare_pair(
        draft_logits,
        target_logits,
        axis=axis,
        where=where,
        names=("draft_logits", "target_logits"),
    )
    ce = weighted(logit_weight, cross(t, z), "logit_weight")
    f = numerics.promote_to_float32(draft_features, "draft_features")
    g = numerics.promote_to_float32(target_features, "target_features")
    if f.shape[:-1] != ce.shape:
        raise ValueError(
            f"draft_features has shape {f.shape}, expected {ce.shape} and features"
        )
    d = f - jax.lax.stop_gradient(g).astype(f.dtype)
    size = jnp.abs(d)
    near = jnp.where(size < 1, d, 0)
    smooth = jnp.where(size < 1, near * near / 2, size - 0.5)
    loss = ce + weighted(feature_weight, jnp.mean(smooth, -1), "feature_weight")
    return jnp.where(jnp.max(z, -1) > -jnp.inf, loss, 0)


def qcrd_loss(
    positive_nll: ArrayLike,
    negative_nll: ArrayLike,
    *,
    positive_quality: ArrayLike | None = None,
    negative_quality: ArrayLike | None = None,
    beta: ArrayLike = 0.2,
    margin: ArrayLike = 3.0,
    positive_select: Literal["min", "mean"] = "min",
    negative_select: Literal["max", "min", "mean"] = "max",
    positive_mask: ArrayLike | None = None,
    negative_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Contrastive distillation of good and bad rationales, weighted by quality.

    Use it when rationales are good and bad, and both are learned from.

    .. math:: \ell = D^+ \min_j l^+_j - \beta (1 - D^-)
        \max_k \min(l^-_k - \delta, 0)

    with the cross-entropies l of a question's rationales (``mean_token_nll``) and the
    qualities D of those that are selected, constants. A bad rationale beyond the
    margin :math:`\delta` has no gradient. From a summary of the paper; that the
    quality is that of the selected rationale is inferred.

    Shapes: positive_nll [..., J], negative_nll [..., K] -> [...]

    Args:
      positive_nll: of the rationales to learn.
      negative_nll: of those to avoid.
      positive_quality: [..., J], D in [0, 1], 1 by default.
      negative_quality: [..., K], D in [0, 1], 0 by default.
      beta: weight of the bad ones.
      margin: delta, in nats.
      positive_select: the cheapest good rationale, or the mean of all.
      negative_select: of the hinges, the largest, the smallest, or their mean.
      positive_mask: bool, the good rationales that there are; none cost 0.
      negative_mask: bool, the bad ones that there are.

    Returns:
      float32 (float64 for float64 input). The first of equals is selected.

    Raises:
      TypeError: an argument is not floating point, or not bool.
      ValueError: shapes that do not fit, or an unknown way to select.

    Numerics: exact to rounding.

    Source: QCRD, Wang et al. 2025, arXiv:2405.13014, from a summary.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import qcrd_loss
    >>> qcrd_loss(jnp.float32([1.2, 0.7]), jnp.float32([2, 3.5]), negative_select="min")
    Array(0.9, dtype=float32)
    """
    if positive_select not in ("min", "mean"):
        raise ValueError(
            f"positive_select is {positive_select!r}, expected 'min' or 'mean'"
        )
    if negative_select not in ("max", "min", "mean"):
        raise ValueError(
            f"negative_select is {negative_select!r}, expected 'max', 'min' or 'mean'"
        )
    good = numerics.promote_to_float32(positive_nll, "positive_nll")
    bad = numerics.promote_to_float32(negative_nll, "negative_nll").astype(good.dtype)
    if bad.shape[:-1] != good.shape[:-1]:
        raise ValueError(
            f"negative_nll has shape {bad.shape}, expected {good.shape[:-1]} and "
            "rationales"
        )
    hinge = jnp.minimum(bad - hyper("margin", margin, bad.dtype), 0)
    up = _quality("positive_quality", positive_quality, good, 1.0)
    down = 1 - _quality("negative_quality", negative_quality, bad, 0.0)
    learn = _selected(good, up, positive_select, positive_mask, "positive_mask")
    avoid = _selected(hinge, down, negative_select, negative_mask, "negative_mask")
    return learn - weighted(beta, avoid, "beta")


def _quality(name, quality, nll, default):
    if quality is None:
        return jnp.full_like(nll, default)
    check_same_shape(name, quality, name.split("_")[0] + "_nll", nll.shape)
    return jax.lax.stop_gradient(numerics.promote_to_float32(quality, name)).astype(
        nll.dtype
    )


def _selected(values, weights, how, where, name):
    keep = numerics.check_mask(where, values.shape, name)
    if how == "mean":
        count = jnp.maximum(jnp.sum(keep, -1), 1).astype(values.dtype)
        return jnp.sum(jnp.where(keep, weights * values, 0), -1) / count
    order = values if how == "min" else -values
    order = jnp.where(keep, jax.lax.stop_gradient(order), jnp.inf)
    at = numerics.is_label(values, jnp.argmin(order, -1)) & keep
    return jnp.sum(jnp.where(at, weights * jnp.where(at, values, 0), 0), -1)
