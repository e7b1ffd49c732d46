"""Hinge losses: nothing to pay beyond a margin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import as_binary, hyper, one_hot_mask, per_class

__all__ = [
    "l2_svm_objective",
    "lee_lin_wahba_loss",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "multilabel_margin_loss",
    "ovr_hinge_loss",
    "squared_hinge_loss",
    "weston_watkins_loss",
]


def multiclass_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Crammer-Singer hinge: the best rival must stay a margin below the label.

    Use it when you want a support vector machine: the best rival stays a margin below.

    .. math:: \ell = \max(0,\; m + \max_{c \ne y} z_c - z_y)

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 without
      a rival.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: one rounding of each difference; tied rivals share the gradient.

    Source: Crammer and Singer 2001, JMLR 2.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multiclass_hinge_loss
    >>> multiclass_hinge_loss(jnp.float32([2, 1.5, 0]), 0)
    Array(0.5, dtype=float32)
    """
    z, score, rival, known = _rivals(logits, labels, axis, where)
    some = jnp.any(rival, -1)
    best = jnp.where(some, _best(z, rival), 0)
    loss = _hinge(_margin(margin, z) + (best - jnp.where(some, score, 0)))
    return jnp.where(known, jnp.where(some, loss, 0), jnp.nan)


def weston_watkins_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    p: ArrayLike = 1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weston-Watkins hinge: every rival must stay a margin below the label.

    Use it when every rival should stay a margin below the label.

    .. math:: \ell = \sum_{c \ne y} \max(0,\; m + z_c - z_y)^p

    Some code divides by the number of classes (``multi_margin_loss`` does), or adds the
    label's own margin :math:`m` first; this does neither.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      margin: :math:`m`, at least 0; may be traced.
      p: the power, at least 1; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits to the power ``p``, float32 (float64 for float64
      logits). 0 without a rival.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``),
        ``margin`` negative or ``p`` below 1.

    Numerics: each hinge is right to 1e-6 of its larger term, margin or difference of
      scores; no gradient at the kink.

    Source: Weston and Watkins 1999, ESANN.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import weston_watkins_loss
    >>> weston_watkins_loss(jnp.float32([2, 1.5, 1]), 0)
    Array(0.5, dtype=float32)
    """
    z, score, rival, known = _rivals(logits, labels, axis, where)
    apart = jnp.where(rival, z, 0) - jnp.where(rival, score[..., None], 0)
    short = jnp.where(rival, _margin(margin, z) + apart, 0)
    return jnp.where(known, jnp.sum(_hinge(short, _power(p, z)), -1), jnp.nan)


def multi_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    class_weights: ArrayLike | None = None,
    *,
    margin: ArrayLike = 1.0,
    p: ArrayLike = 1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Multi-class margin loss: the mean hinge over the classes, weighted by the label.

    Use it when you want PyTorch's mean over classes, with class weights.

    .. math:: \ell = \frac{w_y}{C} \sum_{c \ne y} \max(0,\; m + z_c - z_y)^p

    ``weston_watkins_loss`` is the sum without weights. The divisor counts the label
    too.

    Shapes: logits [..., C], labels [...], class_weights [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      class_weights: :math:`w`, one per class, at least 0; all 1 without them. A label
        of weight 0 costs nothing, hidden or not.
      margin: :math:`m`, at least 0; may be traced.
      p: the power, at least 1; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; C counts them. Hiding the label costs
        ``inf``.

    Returns:
      The loss in units of the logits to the power ``p``, float32 (float64 for float64
      logits). 0 without a rival.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``),
        ``class_weights`` negative or not one per class, ``margin`` negative or ``p``
        below 1.

    Numerics: each hinge is right to 1e-6 of its larger term, margin or difference of
      scores; no gradient at the kink.

    Source: ``torch.nn.MultiMarginLoss``, after Weston and Watkins 1999, ESANN.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multi_margin_loss
    >>> multi_margin_loss(jnp.float32([2, 1.5, 1]), 0, [4, 1, 1])
    Array(0.6666667, dtype=float32)
    """
    z, score, rival, known = _rivals(logits, labels, axis, where)
    m, p = _margin(margin, z), _power(p, z)
    count = jnp.maximum(jnp.sum(z != -jnp.inf, -1), 1).astype(z.dtype)
    weight = 1
    if class_weights is not None:
        w = per_class("class_weights", class_weights, z, lambda w: w >= 0, "at least 0")
        weight = jnp.sum(jnp.where(one_hot_mask(z, labels)[0], w, 0), -1)
        rival = rival & (weight > 0)[..., None]
    apart = jnp.where(rival, z, 0) - jnp.where(rival, score[..., None], 0)
    hinges = _hinge(jnp.where(rival, m + apart, 0), p)
    loss = jnp.sum(hinges * (weight / count)[..., None], -1)
    return jnp.where(known, loss, jnp.nan)


def lee_lin_wahba_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Lee-Lin-Wahba hinge: centred scores of the rivals, Fisher consistent.

    Use it when the hinge has to be consistent for many classes.

    .. math:: \ell = \sum_{c \ne y} \max\Bigl(0,\; z_c - \bar z + \frac{1}{C-1}\Bigr)

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``, and
        slopes as a score far below all others does.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 without
      a rival.

    Raises:
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: each hinge is right to 1e-6 of the scores' spread; a common offset costs
      nothing.

    Source: Lee, Lin and Wahba 2004, JASA 99.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import lee_lin_wahba_loss
    >>> lee_lin_wahba_loss(jnp.float32([1, 0, -1]), 0)
    Array(0.5, dtype=float32)
    """
    z, score, rival, known = _rivals(logits, labels, axis, where)
    shown = z > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    below = jnp.where(shown, z, 0) - jnp.where(shown, top, 0)
    centred = below - jnp.sum(below, -1, keepdims=True) / count
    room = 1 / jnp.maximum(count - 1, 1)
    loss = jnp.sum(_hinge(jnp.where(rival, centred + room, 0)), -1)
    lost = (score == -jnp.inf) & jnp.any(rival, -1)
    limit = jnp.inf + jnp.sum(jnp.where(rival, below, 0) / (count + 1), -1)
    return jnp.where(known, jnp.where(lost, limit, loss), jnp.nan)


def ovr_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""One-versus-rest hinge: a binary hinge for each class, summed.

    Use it when each class has a binary machine of its own.

    .. math:: \ell = \sum_c \max(0,\; m - T_c z_c), \quad T_y = 1, \; T_{c \ne y} = -1

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or a multi-hot array of 0 and 1 of the logits' shape.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``where`` and multi-hot labels.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``; a
        hidden class of a multi-hot label costs nothing.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: each hinge is right to 1e-6 of its larger term, margin or difference of
      scores; no gradient at the kink.

    Source: Rifkin and Klautau 2004, JMLR 5.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ovr_hinge_loss
    >>> ovr_hinge_loss(jnp.float32([0.5, -0.25]), 0)
    Array(1.25, dtype=float32)
    """
    return _one_versus_rest(logits, labels, margin, 1, axis, where)


def squared_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared one-versus-rest hinge: ``ovr_hinge_loss`` with each term squared.

    Use it when you want the L2-SVM, which is differentiable.

    .. math:: \ell = \sum_c \max(0,\; m - T_c z_c)^2

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or a multi-hot array of 0 and 1 of the logits' shape.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``where`` and multi-hot labels.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``; a
        hidden class of a multi-hot label costs nothing.

    Returns:
      The loss in squared units of the logits, float32 (float64 for float64 logits). 0
      where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: each hinge is right to 1e-6 of its larger term, margin or score; overflows
      in float32 for scores above 1e19.

    Source: Rifkin and Klautau 2004, JMLR 5.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import squared_hinge_loss
    >>> squared_hinge_loss(jnp.float32([0.5, -0.5]), 0)
    Array(0.5, dtype=float32)
    """
    return _one_versus_rest(logits, labels, margin, 2, axis, where)


def l2_svm_objective(
    losses: ArrayLike,
    head_kernel: ArrayLike,
    *,
    c: ArrayLike = 0.5,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Half the squared norm of the head plus the summed losses: one number.

    Use it when you want the whole objective, with the head's norm.

    .. math:: \tfrac12 \lVert W \rVert_F^2 + c \sum_i \ell_i

    What GRU-SVM minimises, with the losses of ``squared_hinge_loss``. A sum over the
    batch, so ``c`` trades with the batch size. The bias is left alone. Predict with the
    argmax of the logits: the released code takes the argmax of their signs, which picks
    class 0 whenever two signs agree.

    Shapes: losses [...], head_kernel [D, C], mask [...] -> []

    Args:
      losses: of ``squared_hinge_loss``, one per example.
      head_kernel: the weights of the linear head.
      c: the price of the losses, at least 0; may be traced. With 0 they do not count,
        infinite ones included.
      mask: bool, the examples that take part.

    Returns:
      A scalar, float32 (float64 for float64 losses).

    Raises:
      TypeError: ``losses`` or ``head_kernel`` is not floating point, ``mask`` not bool.
      ValueError: ``mask`` has another shape than ``losses``, or ``c`` is negative.

    Numerics: relative error below 1e-5.

    Source: Agarap 2018, arXiv:1709.03082.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import l2_svm_objective
    >>> l2_svm_objective(jnp.float32([1, 3]), jnp.eye(2))
    Array(3., dtype=float32)
    """
    losses = numerics.promote_to_float32(losses, "losses")
    kernel = numerics.promote_to_float32(head_kernel, "head_kernel")
    c = hyper("c", c, losses.dtype, lambda c: c >= 0, "at least 0")
    keep = numerics.check_mask(mask, losses.shape)
    mean = numerics.masked_mean(jnp.where(c > 0, losses, 0), keep)
    return jnp.sum(kernel**2) / 2 + c * jnp.sum(keep).astype(losses.dtype) * mean


def multilabel_margin_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Multi-label margin loss: every label a margin above every class that is none.

    Use it when every present label should lead every absent one by a margin.

    .. math:: \ell = \frac1C \sum_{j \in P} \sum_{i \notin P} \max(0,\; m + z_i - z_j)

    For ``torch``'s loss of the same name P is a list of classes that ends at the first
    -1; here it is where the labels are 1.

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part; C counts them.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 where no
      pair is left.

    Raises:
      ValueError: labels of another shape or outside [0, 1] (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: each hinge is right to 1e-6 of its larger term, margin or difference of
      scores; no gradient at the kink. Classes are sorted once, so that time and memory
      do not grow with the number of pairs.

    Source: ``torch.nn.MultiLabelMarginLoss``; Crammer and Singer 2003, JMLR 3.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multilabel_margin_loss
    >>> multilabel_margin_loss(jnp.float32([1, 0.5, -2]), jnp.array([1, 0, 0]))
    Array(0.16666667, dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    m, positive = _margin(margin, z), t > 0.5
    still = jax.lax.stop_gradient(z)
    top = jnp.max(jnp.where(shown, still, -jnp.inf), -1, keepdims=True)
    # From above: a pair is on the wrong side while its negative came and its positive,
    # a margin lower, did not. At a tie the positive comes first: there is no gradient.
    place = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    kind = jnp.where(shown, jnp.where(positive, 0, 1), 2)
    below = jnp.where(shown, top - still, 0)
    below = jnp.where(shown, jnp.where(positive, below + m, below), jnp.inf)
    _, kind, still, place = jax.lax.sort((below, kind, still, place), num_keys=2)
    came, missing = jnp.cumsum(kind == 1, -1), jnp.cumsum(kind == 0, -1)
    missing = missing[..., -1:] - missing
    scale = 1 / jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    came, missing = came.astype(z.dtype), missing.astype(z.dtype)
    pairs = (came * scale * missing)[..., :-1]
    # Differences of scores first, for they are exact where the scores are near.
    lower = (kind == 0).astype(z.dtype) * m
    gaps = jnp.diff(lower, axis=-1) - jnp.diff(still, axis=-1)
    slope = jnp.where(kind == 1, missing, jnp.where(kind == 0, -came, 0))
    _, slope = jax.lax.sort((place, slope * scale), num_keys=1)
    moved = z - jax.lax.stop_gradient(z)  # 0, with a gradient
    loss = jnp.sum(jnp.where(pairs > 0, pairs * gaps, 0), -1)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss + jnp.sum(slope * moved, -1))


def _rivals(logits, labels, axis, where):
    """Logits, label's score, the classes that compete with it, labels that exist."""
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    z = jnp.where(z == -jnp.inf, -jnp.inf, z)  # a hidden class gets no gradient
    is_label, known = one_hot_mask(z, labels)
    score = jnp.sum(jnp.where(is_label, z, 0), -1)
    return z, score, ~is_label & (z != -jnp.inf), known


@jax.custom_jvp  # memory: 1.3 arrays of temporaries instead of 3.3
def _best(z, rival):
    """The best rival's score; equal ones share its gradient."""
    return jnp.max(jnp.where(rival, z, -jnp.inf), -1)


@_best.defjvp
def _best_jvp(primals, tangents):
    """The program that makes the logits may hold them twice, rounded differently.

    Then no score equals the largest, and those within a few roundings stand for it.
    """
    (z, rival), (dz, _) = primals, tangents
    best = _best(z, rival)
    top = rival & (z == best[..., None])
    near = (8 * jnp.finfo(z.dtype).eps) * jnp.abs(best[..., None])
    near = rival & (z >= best[..., None] - near)
    top |= near & ~jnp.any(top, -1, keepdims=True)
    count = jnp.maximum(jnp.sum(top, -1), 1).astype(z.dtype)
    return best, jnp.sum(jnp.where(top, dz, 0), -1) / count


def _margin(margin, z):
    return hyper("margin", margin, z.dtype, lambda m: m >= 0, "at least 0")


def _power(p, z):
    power = hyper("p", p, z.dtype, lambda p: p >= 1, "at least 1")
    whole = not isinstance(p, jax.core.Tracer) and float(p).is_integer()
    return int(p) if whole else power  # 1 and 2 are cheaper than powers


def _hinge(x, p=1):
    live = ~(x <= 0)
    x = jnp.where(live, x, 1)
    return jnp.where(live, x if isinstance(p, int) and p == 1 else x**p, 0)


def _one_versus_rest(logits, labels, margin, p, axis, where):
    if np.shape(labels) == np.shape(logits):
        z, t, shown, bad = as_binary(logits, labels, axis, where)
        positive, known = t > 0, ~jnp.any(bad, -1)
    else:
        z = numerics.prepare_logits(logits, axis=axis, where=where)
        shown = z != -jnp.inf
        z = jnp.where(shown, z, -jnp.inf)  # a hidden class gets no gradient
        positive, known = one_hot_mask(z, labels)
        shown = shown | (positive & jnp.any(shown, -1, keepdims=True))
        z = jnp.where(shown, z, 0)
    lead = jnp.where(positive, z, -z)
    loss = _hinge(jnp.where(shown, _margin(margin, z) - lead, 0), p)
    return jnp.where(known, jnp.sum(loss, -1), jnp.nan)
