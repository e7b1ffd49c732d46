"""Distillation that keeps what is right already, or what else a teacher can say."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.matching import logit_mse
from logitlab.losses.distillation.pairs import (
    check_temperature,
    half_scores,
    labelled_pairs,
    student_and_teacher,
)
from logitlab.losses.distillation.relative_entropy import kl
from logitlab.losses.labels import checked
from logitlab.losses.rows import Row, class_labels

__all__ = [
    "aspect_targets",
    "focal_distillation",
    "makd",
    "margin_calibrated_cross_entropy",
]

NOT_LOSSES = ("aspect_targets",)


def margin_calibrated_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    new_class_mask: ArrayLike,
    *,
    bias: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy that asks more of old classes, against negative flips.

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
      ValueError: wrong shapes, a label out of range (NaN under ``jit``), or ``bias`` is
        negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Margin Preserving Training, arXiv:2511.08322.

    >>> new = jnp.array([False, True])
    >>> margin_calibrated_cross_entropy(jnp.float32([4, 0]), 0, new, bias=4.0)
    Array(0.6931472, dtype=float32)
    """
    checked("bias", bias, lambda b: b >= 0, "at least 0")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    new = numerics.kept(new_class_mask, z.shape[-1:], "new_class_mask")
    shift = jnp.where(new, jnp.asarray(bias, z.dtype), 0)
    # Taken from the old ones: nothing is added to the largest number.
    z = z - (bias - shift).reshape((1,) * (z.ndim - 1) + (-1,))
    return numerics.label_nll(z, labels)


def focal_distillation(
    student_logits: ArrayLike,
    source_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 5.0,
    temperature: ArrayLike = 5.0,
    kind: Literal["kl", "lm", "naive"] = "kl",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distillation from another model, more where that model is right.

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

    Numerics: as ``kd``.

    Source: Margin Preserving Training, arXiv:2511.08322; focal
      distillation, Yan et al. 2021, arXiv:2011.09161.

    >>> z, v = jnp.float32([0, 0, 7]), jnp.float32([99, -99])
    >>> focal_distillation(z, v, 0, temperature=1.0)
    Array(4.158883, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if kind not in ("kl", "lm", "naive"):
        raise ValueError(f"kind is {kind!r}, expected 'kl', 'lm' or 'naive'")
    z = numerics.class_axis_last(
        student_logits, axis=axis, where=where, name="student_logits"
    )
    v = numerics.class_axis_last(source_logits, axis=axis, name="source_logits")
    v = jax.lax.stop_gradient(v)
    old = v.shape[-1]
    if v.shape[:-1] != z.shape[:-1] or old > z.shape[-1]:
        raise ValueError(
            f"source_logits has shape {jnp.shape(source_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, or fewer classes"
        )
    _, known = numerics.known_labels(labels, z.shape[:-1], jnp.iinfo(jnp.int32).max)
    shared = z[..., :old] if old < z.shape[-1] else z
    v = jnp.where(shared > -jnp.inf, v, -jnp.inf)
    y = jnp.asarray(labels)
    right = jnp.argmax(v, -1) == y
    if kind == "naive":
        is_class = y < z.shape[-1]
        nll = numerics.label_nll(z, jnp.where(known & is_class, y, 0))
        return jnp.where(known, jnp.where(right, nll, 0), jnp.nan)
    weight = (alpha + jnp.where(right, beta, 0)).astype(z.dtype)
    if kind == "lm":
        loss = weight * logit_mse(shared, v)
    else:
        shared, v = student_and_teacher(shared, v)
        temperature = check_temperature(temperature, z)
        a, b = (half_scores(x, temperature) for x in (v, shared))
        loss = kl(a, b, weight[..., None])
    return jnp.where(known, loss, jnp.nan)


def makd(
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
      ValueError: shapes that do not fit, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Multi-Aspect Knowledge Distillation, Lee et al. 2025, arXiv:2501.13341.

    >>> makd(jnp.float32([0, 0, 9]), 0, jnp.float32([1]), num_classes=2, alpha=0.0)
    Array(0.6931472, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis)
    r = jax.lax.stop_gradient(numerics.promote(aspects, "aspects"))
    r = jnp.moveaxis(r, axis, -1).astype(z.dtype)
    expected = (*z.shape[:-1], z.shape[-1] - num_classes)
    if r.shape != expected:
        raise ValueError(f"aspects has shape {r.shape}, expected {expected}")
    mask = None if aspect_mask is None else jnp.moveaxis(aspect_mask, axis, -1)
    keep = numerics.kept(mask, r.shape, "aspect_mask")
    # Masks, not slices: the outputs may be spread over a mesh.
    is_class = jnp.arange(z.shape[-1]) < num_classes
    is_class = is_class.reshape((1,) * (z.ndim - 1) + (-1,))
    before = [(0, 0)] * (z.ndim - 1) + [(num_classes, 0)]
    r, keep = jnp.pad(r, before), jnp.pad(keep, before)
    x = jnp.where(keep, z, 0)
    # Both ends by themselves: neither cancels against the other.
    bce = r * jax.nn.softplus(-x) + (1 - r) * jax.nn.softplus(x)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(z.dtype)
    ce = numerics.label_nll(z, jnp.asarray(labels), where=is_class)
    return ce + jnp.sum(jnp.where(keep, bce * (alpha / count), 0), -1)


def aspect_targets(
    yes_logits: ArrayLike, no_logits: ArrayLike, *, temperature: ArrayLike = 1.0
) -> jax.Array:
    r"""Probability of a yes, from the logits of two tokens.

    .. math:: r = \sigma((l_{yes} - l_{no}) / T)

    Shapes: yes_logits [...], no_logits [...] -> [...]

    Raises:
      TypeError: logits are not floating point.
      ValueError: the shapes differ, or ``temperature`` is not positive.

    Source: Multi-Aspect Knowledge Distillation, arXiv:2501.13341.

    >>> aspect_targets(jnp.float32(1), jnp.float32(1))
    Array(0.5, dtype=float32)
    """
    checked("temperature", temperature, lambda t: t > 0, "positive")
    yes = numerics.promote(yes_logits, "yes_logits")
    no = numerics.promote(no_logits, "no_logits")
    if yes.shape != no.shape:
        raise ValueError(f"no_logits has shape {no.shape}, expected {yes.shape}")
    return jax.nn.sigmoid((yes - no) / temperature)


def _some_new(key, shape, dtype):
    classes = shape[-1]
    return *class_labels(key, shape, dtype), jnp.arange(classes) >= (classes + 1) // 2


def _with_aspects(key, shape, dtype):
    classes, aspects = jax.random.split(key)
    logits = 3 * jax.random.normal(classes, shape, dtype)
    labels = jax.random.randint(key, shape[:-1], 0, 2)
    size = (*shape[:-1], max(shape[-1] - 2, 0))
    return logits, labels, jax.random.uniform(aspects, size, dtype)


ROWS = (
    Row(
        margin_calibrated_cross_entropy,
        "example",
        _some_new,
        "Margin Preserving Training, arXiv:2511.08322",
        hyper={"bias": 2.0},
        golden="mpt_negative_flips",
        convex=True,
        cost="the logits with their bias",
    ),
    Row(
        focal_distillation,
        "example",
        labelled_pairs,
        "Yan et al. 2021, arXiv:2011.09161",
        golden="mpt_negative_flips",
        convex=True,
        cost="both distributions and their ratio are arrays of the logits' size",
    ),
    Row(
        makd,
        "example",
        _with_aspects,
        "MaKD, Lee et al. 2025, arXiv:2501.13341",
        hyper={"num_classes": 2},
        golden="makd",
        shift_invariant=False,
        convex=True,
        where=False,
        symmetric=False,
        cost="a sigmoid for each aspect",
    ),
)
