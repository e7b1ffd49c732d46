"""Classification by cosine with a margin: losses that learn embeddings of faces."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics._lengths import length
from logitlab.numerics.arguments import hyper
from logitlab.transforms import (
    arcface_logits,
    cosface_logits,
    cosine_logits,
    label_sines,
    magface_logits,
    unpg_negatives,
)
from logitlab.transforms.angular_margins import norm_range

__all__ = [
    "arcface_loss",
    "cosface_loss",
    "magface_loss",
    "magface_penalty",
    "unpg_loss",
]


def cosface_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
) -> jax.Array:
    r"""CosFace: cross-entropy of cosines, the label's less a margin; one per example.

    Use it when embeddings of unseen classes will be compared, as faces are.

    .. math:: \ell = \log\Bigl(1 + \sum_{c \ne y} e^{s(\cos\theta_c - \cos\theta_y + m)}
        \Bigr)

    It is the cross-entropy of a transform, and so any other loss may take its place::

        cosines = transforms.cosine_logits(embeddings, kernel, scale=1.0)
        losses.focal_loss(transforms.cosface_logits(cosines, labels), labels)

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``, or negative for "no label".
      kernel: one column for each class, of any length.
      margin: at least 0.
      scale: above 0.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, or labels not integer.
      ValueError: a kernel of another width, labels of another shape or of C or more
        (NaN under ``jit``), or a hyper-parameter out of its range.

    Numerics: given the cosines, relative error below 1e-5, value and gradient; theirs,
      of 1e-7, the scale makes a relative one of the loss.

    Source: Wang et al. 2018, arXiv:1801.09414.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cosface_loss
    >>> print(cosface_loss(jnp.eye(2), jnp.arange(2), jnp.eye(2), scale=1.0).round(4))
    [0.4201 0.4201]
    """
    cosines = cosine_logits(embeddings, kernel, scale=1.0)
    return cross_entropy(
        cosface_logits(cosines, labels, margin=margin, scale=scale), labels
    )


def arcface_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
    monotone: bool = True,
) -> jax.Array:
    r"""ArcFace: cross-entropy with a margin on the label's angle; one per example.

    Use it when embeddings of unseen classes will be compared, as faces are; the one
    that most work takes.

    .. math:: \ell = -\log \frac{e^{s \cos(\theta_y + m)}}
        {e^{s \cos(\theta_y + m)} + \sum_{c \ne y} e^{s \cos\theta_c}}

    It is the cross-entropy of ``arcface_logits``, in whose place any other loss may
    stand.

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``, or negative for "no label".
      kernel: one column for each class, of any length.
      margin: an angle in ``[0, pi]``, one number or one per example.
      scale: above 0.
      monotone: as for ``arcface_logits``.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, or labels not integer.
      ValueError: a kernel of another width, labels of another shape or of C or more
        (NaN under ``jit``), or a hyper-parameter out of its range.

    Numerics: as for ``cosface_loss``; sines come of ``label_sines``, right for angles
      of which a cosine in float32 keeps nothing.

    Source: Deng et al. 2019, arXiv:1801.07698.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import arcface_loss
    >>> print(arcface_loss(jnp.eye(2), jnp.arange(2), jnp.eye(2), scale=1.0).round(4))
    [0.3477 0.3477]
    """
    cosines = cosine_logits(embeddings, kernel, scale=1.0)
    logits = arcface_logits(
        cosines,
        labels,
        margin=margin,
        scale=scale,
        monotone=monotone,
        sines=label_sines(embeddings, labels, kernel),
    )
    return cross_entropy(logits, labels)


def magface_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    margin_low: ArrayLike = 0.45,
    margin_high: ArrayLike = 0.8,
    norm_low: ArrayLike = 10.0,
    norm_high: ArrayLike = 110.0,
    penalty_weight: ArrayLike = 35.0,
    easy_margin: bool = True,
) -> jax.Array:
    r"""MagFace: an angular margin that grows with the norm; one value per example.

    Use it when the norm of an embedding should tell how good the picture was.

    .. math:: \ell = \mathrm{CE}(z, y) + \lambda \Bigl(\frac{a}{a_u^2} + \frac1a\Bigr)

    with the logits of ``magface_logits`` and the clipped norm a. Cross-entropy of the
    one plus ``magface_penalty``: any other loss may stand in its place.

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: their length matters.
      labels: ints in ``[0, C)``, or negative for "no label".
      kernel: one column for each class, of any length.
      scale: above 0.
      margin_low: as for ``magface_logits``, as are the next three and ``easy_margin``.
      margin_high: the largest margin.
      norm_low: the norm below which the margin stays.
      norm_high: the norm above which it stays.
      penalty_weight: lambda, at least 0.
      easy_margin: no margin where the cosine is not above 0.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, or labels not integer.
      ValueError: a kernel of another width, labels of another shape or of C or more
        (NaN under ``jit``), or a hyper-parameter out of its range.

    Numerics: as for ``arcface_loss``.

    Source: Meng et al. 2021, arXiv:2103.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import magface_loss
    >>> print(magface_loss(20 * jnp.eye(2), jnp.arange(2), jnp.eye(2)).round(4))
    [1.8079 1.8079]
    """
    norms = length(numerics.promote_to_float32(embeddings, "embeddings"))
    logits = magface_logits(
        cosine_logits(embeddings, kernel, scale=1.0),
        labels,
        norms,
        scale=scale,
        margin_low=margin_low,
        margin_high=margin_high,
        norm_low=norm_low,
        norm_high=norm_high,
        easy_margin=easy_margin,
        sines=label_sines(embeddings, labels, kernel),
    )
    weight = hyper(
        "penalty_weight", penalty_weight, norms.dtype, lambda w: w >= 0, "at least 0"
    )
    penalty = magface_penalty(norms, norm_low=norm_low, norm_high=norm_high)
    return cross_entropy(logits, labels) + weight * penalty


def magface_penalty(
    norms: ArrayLike, *, norm_low: ArrayLike = 10.0, norm_high: ArrayLike = 110.0
) -> jax.Array:
    r"""What MagFace adds for embeddings of small norm, one value per example.

    .. math:: \frac{a}{a_u^2} + \frac1a

    with the norm a clipped to :math:`[a_l, a_u]`, where it falls; no gradient beyond.

    Shapes: norms [...] -> [...]

    Args:
      norms: lengths of embeddings.
      norm_low: above 0.
      norm_high: above ``norm_low``.

    Raises:
      TypeError: ``norms`` is not floating point.
      ValueError: the bounds are out of order.

    Source: Meng et al. 2021, arXiv:2103.06627.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import magface_penalty
    >>> magface_penalty(jnp.float32([1, 10, 200]))
    Array([0.10082645, 0.10082645, 0.01818182], dtype=float32)
    """
    a = numerics.promote_to_float32(norms, "norms")
    low, high = norm_range(norm_low, norm_high, a.dtype)
    a = jnp.clip(a, low, high)
    return a / high**2 + 1 / a


def unpg_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    head: Literal["cosface", "arcface"] = "cosface",
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
    whisker: ArrayLike = 1.5,
    monotone: bool = True,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""UNPG: a margin head with the batch's negative pairs, one value per example.

    Use it when weights of classes are easy to tell apart while examples are not.

    .. math:: \ell_i = -\log \frac{e^{z_{iy}}}{\sum_c e^{z_{ic}} + \sum_{(j, k)}
        e^{s S_{jk}}}

    with the pairs (j, k) of ``unpg_negatives``, the same for every example, and the
    logits z of the head. Their sum is one more logit, and any other loss may take the
    place of the cross-entropy::

        rest = numerics.logsumexp(scale * negatives.ravel())
        rest = jnp.broadcast_to(rest, (len(logits), 1))
        losses.focal_loss(jnp.concatenate([logits, rest], -1), labels)

    Never below the loss of the head; equal to it where no pair is left.

    Shapes: embeddings [B, D], labels [B], kernel [D, C], mask [B] -> [B]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``; an example with a negative one is in no pair.
      kernel: one column for each class, of any length.
      head: ``cosface_logits`` or ``arcface_logits``.
      margin: at least 0; 0.5 for either head in the paper's code.
      scale: above 0.
      whisker: at least 0; how far outside the middle half of the negatives a pair may
        be, see ``unpg_negatives``.
      monotone: as for ``arcface_logits``; False in the paper's code.
      mask: bool, the examples that count, in pairs too; the others cost 0.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, labels not integer, or ``mask`` not
        bool.
      ValueError: ``head`` is unknown, shapes that do not fit together, a label of C or
        more (NaN under ``jit``), or a hyper-parameter out of its range.

    Numerics: as for ``arcface_loss``. All pairs of a batch are sorted.

    Source: Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import unpg_loss
    >>> print(unpg_loss(jnp.eye(2), jnp.arange(2), jnp.eye(2), scale=1.0).round(4))
    [0.7944 0.7944]
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if e.ndim != 2:
        raise ValueError(
            f"embeddings has shape {e.shape}, expected one row per example"
        )
    keep = numerics.check_mask(mask, e.shape[:1])
    e = jnp.where(keep[:, None], e, 0)
    y = numerics.wide_labels(labels)
    if y.shape == keep.shape:  # a label behind the mask may be any integer
        y = jnp.where(keep, y, -1)
    cosines = cosine_logits(e, kernel, scale=1.0)
    options = dict(margin=margin, scale=scale)
    if head == "cosface":
        logits = cosface_logits(cosines, y, **options)
    elif head == "arcface":
        sines = label_sines(e, y, kernel)
        logits = arcface_logits(cosines, y, monotone=monotone, sines=sines, **options)
    else:
        raise ValueError(f"head is {head!r}, expected 'cosface' or 'arcface'")
    negatives = unpg_negatives(e, y, whisker=whisker).ravel()
    kept = negatives > -jnp.inf
    rest = jnp.asarray(scale, e.dtype) * jnp.where(kept, negatives, 0)
    rest = jnp.broadcast_to(numerics.logsumexp(rest, where=kept), (len(e), 1))
    losses = cross_entropy(jnp.concatenate([logits, rest], -1), y)
    return jnp.where(keep, losses, 0)
