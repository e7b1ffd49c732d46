"""Distillation that keeps what is right already, or what else a teacher can say."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import (
    check_temperature,
    prepare_pair,
)
from logitlab.losses.distillation._relative_entropy import kl
from logitlab.losses.distillation.matching import logit_mse_loss
from logitlab.numerics.arguments import check_number, hyper, weighted

__all__ = ["focal_distillation_loss", "makd_loss", "margin_calibrated_cross_entropy"]


def margin_calibrated_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    new_class_mask: ArrayLike,
    *,
    bias: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy with a training-time bias on the logits of new classes.

    Use it when a new version adds classes and must keep the old ones' margins.

    .. math:: \ell = -\log \mathrm{softmax}(z + b \, 1_{new})_y

    The bias is added in training alone; a model predicts with its plain logits. The
    larger it is, the fewer predictions of old classes flip, and the less accurate are
    the new ones. Distillation terms have no bias.

    Shapes: logits [..., C], labels [...], new_class_mask [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      new_class_mask: bool, the classes that the old model has not.
      bias: b, at least 0; the paper tries 0, 1, 2, 4.
      axis: the class axis.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point, or a mask is not bool.
      ValueError: wrong shapes, a label of C or more (NaN under ``jit``), or ``bias`` is
        negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Margin Preserving Training, arXiv:2511.08322.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import margin_calibrated_cross_entropy
    >>> new = jnp.array([False, True])
    >>> margin_calibrated_cross_entropy(jnp.float32([4, 0]), 0, new, bias=4.0)
    Array(0.6931472, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    bias = hyper("bias", bias, z.dtype, lambda b: b >= 0, "at least 0")
    new = numerics.check_mask(new_class_mask, z.shape[-1:], "new_class_mask")
    shift = jnp.where(new, bias, 0)
    # Taken from the old ones: nothing is added to the largest number.
    z = z - (bias - shift).reshape((1,) * (z.ndim - 1) + (-1,))
    return numerics.label_nll(z, labels)


def focal_distillation_loss(
    student_logits: ArrayLike,
    source_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 5.0,
    temperature: ArrayLike = 1.0,
    kind: Literal["kl", "lm", "naive"] = "kl",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distillation from the old model, weighted up where that model is right.

    Use it when a new version must not break what the old one got right.

    .. math:: \ell = w \, \mathrm{KL}(\mathrm{softmax}(v / \tau) \|
        \mathrm{softmax}(z / \tau)), \quad w = \alpha + \beta [\arg\max_c v_c = y]

    Without a factor :math:`\tau^2`. Margin-preserving training is
    ``margin_calibrated_cross_entropy`` plus this from the old model and from a newly
    trained one; the old one's classes are the first of the student's.

    Shapes: student_logits [..., C], source_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      student_logits: z; ``-inf`` is the same as ``where=False``.
      source_logits: v, of the same classes, or of the first K of them, to which the
        divergence is then confined; no gradient.
      labels: ints from 0 on. One that is no class of the source means that the source
        is wrong.
      alpha: weight of every example.
      beta: weight more of those that the source has right.
      temperature: tau, positive; 5 in margin-preserving training, 100 in
        positive-congruent training.
      kind: ``"kl"``; ``"lm"`` for half of the mean squared difference of logits; or
        ``"naive"`` for the cross-entropy of what the source has right, without weights.
      axis: the class axis.
      where: bool, the student's classes that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point, ``labels`` not integer, or ``where`` not
        bool.
      ValueError: shapes that do not fit, a negative label (NaN under ``jit``), an
        unknown ``kind``, or a temperature that is not positive.

    Numerics: as ``kd_loss``.

    Source: Margin Preserving Training, arXiv:2511.08322; focal
      distillation, Yan et al. 2021, arXiv:2011.09161.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import focal_distillation_loss
    >>> z, v = jnp.float32([0, 0, 7]), jnp.float32([99, -99])
    >>> focal_distillation_loss(z, v, 0, temperature=1.0)
    Array(4.158883, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if kind not in ("kl", "lm", "naive"):
        raise ValueError(f"kind is {kind!r}, expected 'kl', 'lm' or 'naive'")
    z = numerics.prepare_logits(
        student_logits, axis=axis, where=where, name="student_logits"
    )
    v = numerics.prepare_logits(source_logits, axis=axis, name="source_logits")
    v = jax.lax.stop_gradient(v)
    old = v.shape[-1]
    if v.shape[:-1] != z.shape[:-1] or old > z.shape[-1]:
        raise ValueError(
            f"source_logits has shape {jnp.shape(source_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, or fewer classes"
        )
    y, known = numerics.check_labels(labels, z.shape[:-1], jnp.iinfo(jnp.int32).max)
    shared = z[..., :old] if old < z.shape[-1] else z
    v = jnp.where(shared > -jnp.inf, v, -jnp.inf)
    right = jnp.argmax(v, -1) == y
    if kind == "naive":
        is_class = y < z.shape[-1]
        nll = numerics.label_nll(z, jnp.where(is_class, y, 0))
        return jnp.where(known, jnp.where(right, nll, 0), jnp.nan)
    alpha, beta = hyper("alpha", alpha, z.dtype), hyper("beta", beta, z.dtype)
    weight = alpha + jnp.where(right, beta, 0)
    if kind == "lm":
        loss = weighted(weight, logit_mse_loss(shared, v))
    else:
        shared, v = prepare_pair(shared, v)
        temperature = check_temperature(temperature, z)
        loss = weighted(weight, kl(v, shared, temperature))
    return jnp.where(known, loss, jnp.nan)


def makd_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    aspects: ArrayLike,
    *,
    num_classes: int,
    alpha: ArrayLike = 4.0,
    aspect_mask: ArrayLike | None = None,
    axis: int = -1,
) -> jax.Array:
    r"""Multi-aspect distillation from a language model's answers to yes-no questions.

    Use it when a large model also answered questions about the inputs.

    .. math:: \ell = -\log \mathrm{softmax}(z_{<C})_y + \alpha \frac1A \sum_a
        \bigl[\log(1 + e^{x_a}) - r_a x_a\bigr], \quad x = z_{\ge C}

    The first C outputs are the classes, and predict; the others are A aspects.

    Shapes: logits [..., C], labels [...], aspects [..., A] -> [...]

    Args:
      logits: [..., C + A].
      labels: ints in ``[0, num_classes)``.
      aspects: in [0, 1], from ``aspect_targets``; no gradient.
      num_classes: C.
      alpha: weight of the aspects.
      aspect_mask: bool [..., A], the aspects that are known; without any only the
        cross-entropy is left.
      axis: of the outputs, and of the aspects.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``aspects`` is not floating point, or ``aspect_mask`` not
        bool.
      ValueError: shapes that do not fit, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Multi-Aspect Knowledge Distillation, Lee et al. 2025, arXiv:2501.13341.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import makd_loss
    >>> makd_loss(jnp.float32([0, 0, 9]), 0, jnp.float32([1]), num_classes=2, alpha=0.0)
    Array(0.6931472, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis)
    r = jax.lax.stop_gradient(numerics.promote_to_float32(aspects, "aspects"))
    r = jnp.moveaxis(r, axis, -1).astype(z.dtype)
    check_number("num_classes", num_classes)
    expected = (*z.shape[:-1], z.shape[-1] - num_classes)
    if r.shape != expected:
        raise ValueError(f"aspects has shape {r.shape}, expected {expected}")
    mask = None if aspect_mask is None else jnp.moveaxis(aspect_mask, axis, -1)
    keep = numerics.check_mask(mask, r.shape, "aspect_mask")
    # Masks, not slices: the outputs may be spread over a mesh.
    is_class = jnp.arange(z.shape[-1]) < num_classes
    is_class = is_class.reshape((1,) * (z.ndim - 1) + (-1,))
    before = [(0, 0)] * (z.ndim - 1) + [(num_classes, 0)]
    r, keep = jnp.pad(r, before), jnp.pad(keep, before)
    x = jnp.where(keep, z, 0)
    # Both ends by themselves: neither cancels against the other.
    bce = r * jax.nn.softplus(-x) + (1 - r) * jax.nn.softplus(x)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(z.dtype)
    ce = numerics.label_nll(z, labels, where=is_class)
    share = hyper("alpha", alpha, z.dtype) / count
    return ce + jnp.sum(jnp.where(keep, weighted(share, bce), 0), -1)
