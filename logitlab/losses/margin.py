"""Hinge losses: nothing to pay beyond a margin."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked, label_mask

__all__ = [
    "l2_svm_loss",
    "l2_svm_objective",
    "lee_lin_wahba",
    "multiclass_hinge",
    "ovr_hinge",
    "smooth_topk",
    "squared_hinge",
    "topk_hinge",
    "weston_watkins",
]

NOT_LOSSES = ("l2_svm_objective",)


def multiclass_hinge(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Crammer-Singer hinge: the best rival must stay a margin below the label.

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
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: one rounding of each difference; tied rivals share the gradient.

    Source: Crammer and Singer 2001, JMLR 2.

    >>> multiclass_hinge(jnp.float32([2, 1.5, 0]), 0)
    Array(0.5, dtype=float32)
    """
    checked("margin", margin, lambda m: m >= 0, "at least 0")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    some = jnp.any(rival, -1)
    best = jnp.where(some, jnp.max(jnp.where(rival, z, -jnp.inf), -1), 0)
    loss = _hinge(margin + (best - jnp.where(some, score, 0)))
    return jnp.where(known, jnp.where(some, loss, 0), jnp.nan)


def weston_watkins(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    p: float = 1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weston-Watkins hinge: every rival must stay a margin below the label.

    .. math:: \ell = \sum_{c \ne y} \max(0,\; m + z_c - z_y)^p

    Some code divides by the number of classes (``torch``'s multi-margin loss), or adds
    the label's own margin :math:`m` first; we do neither.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      margin: :math:`m`, at least 0; may be traced.
      p: the power, at least 1.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits to the power ``p``, float32 (float64 for float64
      logits). 0 without a rival.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``),
        ``margin`` negative or ``p`` below 1.

    Numerics: relative error below 1e-5; no gradient at the kink.

    Source: Weston and Watkins 1999, ESANN.

    >>> weston_watkins(jnp.float32([2, 1.5, 1]), 0)
    Array(0.5, dtype=float32)
    """
    checked("margin", margin, lambda m: m >= 0, "at least 0")
    checked("p", p, lambda p: p >= 1, "at least 1")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    short = margin + (jnp.where(rival, z, 0) - jnp.where(rival, score[..., None], 0))
    loss = jnp.sum(_hinge(jnp.where(rival, short, 0), p), -1)
    return jnp.where(known, loss, jnp.nan)


def lee_lin_wahba(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Lee-Lin-Wahba hinge: centred scores of the rivals, Fisher consistent.

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
      ValueError: wrong label shape, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5; a common offset costs nothing.

    Source: Lee, Lin and Wahba 2004, JASA 99.

    >>> lee_lin_wahba(jnp.float32([1, 0, -1]), 0)
    Array(0.5, dtype=float32)
    """
    z, score, rival, known = _rivals(logits, labels, axis, where)
    shown = z > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    # Halves cannot overflow, and the top class is a point to measure from.
    half = jnp.where(shown, z / 2 - jnp.where(shown, top, 0) / 2, 0)
    centred = 2 * (half - jnp.sum(half / count, -1, keepdims=True))
    room = 1 / jnp.maximum(count - 1, 1)
    loss = jnp.sum(_hinge(jnp.where(rival, centred + room, 0)), -1)
    lost = (score == -jnp.inf) & jnp.any(rival, -1)
    limit = jnp.inf + jnp.sum(jnp.where(rival, half, 0) * (2 / (count + 1)), -1)
    return jnp.where(known, jnp.where(lost, limit, loss), jnp.nan)


def ovr_hinge(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""One-versus-rest hinge: a binary hinge for each class, summed.

    .. math:: \ell = \sum_c \max(0,\; m - T_c z_c), \quad T_y = 1, \; T_{c \ne y} = -1

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or a multi-hot array of the logits' shape.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``where`` and multi-hot labels.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``; a
        hidden class of a multi-hot label costs nothing.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: relative error below 1e-5; no gradient at the kink.

    Source: Rifkin and Klautau 2004, JMLR 5.

    >>> ovr_hinge(jnp.float32([0.5, -0.25]), 0)
    Array(1.25, dtype=float32)
    """
    return _one_versus_rest(logits, labels, margin, 1, axis, where)


def squared_hinge(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared one-versus-rest hinge: ``ovr_hinge`` with each term squared.

    .. math:: \ell = \sum_c \max(0,\; m - T_c z_c)^2

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or a multi-hot array of the logits' shape.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``where`` and multi-hot labels.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``; a
        hidden class of a multi-hot label costs nothing.

    Returns:
      The loss in squared units of the logits, float32 (float64 for float64 logits). 0
      where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: relative error below 1e-5; overflows in float32 for scores above 1e19.

    Source: Rifkin and Klautau 2004, JMLR 5.

    >>> squared_hinge(jnp.float32([0.5, -0.5]), 0)
    Array(0.5, dtype=float32)
    """
    return _one_versus_rest(logits, labels, margin, 2, axis, where)


def l2_svm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""L2-SVM head of GRU-SVM: the squared hinge, to sum (not average) over a batch.

    .. math:: \ell = \sum_c \max(0,\; m - T_c z_c)^2

    The same function as ``squared_hinge``; ``l2_svm_objective`` adds the weight norm.
    Predict with the argmax of the logits: the released code takes the argmax of their
    signs, which picks class 0 whenever two signs agree.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or a multi-hot array of the logits' shape.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits``, ``where`` and multi-hot labels.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``; a
        hidden class of a multi-hot label costs nothing.

    Returns:
      The loss in squared units of the logits, float32 (float64 for float64 logits). 0
      where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``margin`` negative.

    Numerics: relative error below 1e-5; overflows in float32 for scores above 1e19.

    Source: Agarap 2018, arXiv:1709.03082.

    >>> l2_svm_loss(jnp.float32([0.5, -0.2]), 0)
    Array(0.89000005, dtype=float32)
    """
    return _one_versus_rest(logits, labels, margin, 2, axis, where)


def l2_svm_objective(
    losses: ArrayLike, head_kernel: ArrayLike, *, c: ArrayLike = 0.5
) -> jax.Array:
    r"""What GRU-SVM minimises: half the squared norm of the head plus summed losses.

    .. math:: \tfrac12 \lVert W \rVert_F^2 + c \sum_i \ell_i

    A sum over the batch, so ``c`` trades with the batch size. The bias is left alone.

    Shapes: losses [...], head_kernel [D, C] -> []

    Raises:
      TypeError: ``losses`` or ``head_kernel`` is not floating point.

    Source: Agarap 2018, arXiv:1709.03082.

    >>> l2_svm_objective(jnp.float32([1, 3]), jnp.eye(2))
    Array(3., dtype=float32)
    """
    kernel = numerics.promote(head_kernel, "head_kernel")
    return jnp.sum(kernel**2) / 2 + c * jnp.sum(numerics.promote(losses, "losses"))


def topk_hinge(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 5,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Top-k hinge: the k best rivals together must stay a margin below the label.

    .. math:: \ell = \max\Bigl(0,\; m + \frac1k \sum_{j=1}^k (z_{[j]} - z_y)\Bigr)

    with :math:`z_{[j]}` the j-th largest of the rivals' scores; all rivals where there
    are fewer than k. ``k=1`` is ``multiclass_hinge``. Lapin's own version counts the
    label among the candidates, with a margin of 0; it differs where the label is less
    than ``m`` above the k-th rival.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      k: at least 1.
      margin: :math:`m`, at least 0; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 without
      a rival.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``k``
        below 1 or ``margin`` negative.

    Numerics: relative error below 1e-5.

    Source: Lapin, Hein and Schiele 2015, arXiv:1511.06683.

    >>> topk_hinge(jnp.float32([1, 1.5, 0.5, -4]), 0, k=2)
    Array(1., dtype=float32)
    """
    checked("k", k, lambda k: k >= 1, "at least 1")
    checked("margin", margin, lambda m: m >= 0, "at least 0")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    k = min(k, z.shape[-1])
    best, _ = jax.lax.top_k(jnp.where(rival, z, -jnp.inf), k)
    taken = best > -jnp.inf
    count = jnp.sum(taken, -1)
    base = jnp.where(count > 0, score, 0)[..., None]
    # Quarters: differences of the largest numbers fit, and so does their mean.
    apart = jnp.where(taken, best, 0) / 4 - jnp.where(taken, base, 0) / 4
    mean = 4 * jnp.sum(apart / jnp.maximum(count, 1)[..., None], -1)
    loss = jnp.where(count > 0, _hinge(margin + mean), 0)
    return jnp.where(known, loss, jnp.nan)


def smooth_topk(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 5,
    margin: ArrayLike = 1.0,
    tau: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Smooth top-k SVM: is the label in the top k, with all k-subsets at once.

    .. math:: \ell = \tau \log\Bigl(1 + e^{m/\tau}
        \frac{\sigma_k(x)}{x_y\,\sigma_{k-1}(x)}\Bigr), \quad x_c = e^{z_c / (k \tau)}

    with :math:`\sigma_k` the elementary symmetric polynomial over the rivals. For
    :math:`\tau \to 0` it is :math:`\max(0, m + (z_{[k]} - z_y)/k)`. Our methods list
    names the loss beside ``topk_hinge`` without a formula; this is the published loss
    of that name, not a smoothed ``topk_hinge``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      k: at least 1. The cost is k numbers per class, one class after another.
      margin: :math:`m`, at least 0; may be traced.
      tau: the temperature, positive; may be traced.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 with
      fewer than k rivals, when nothing can push the label out.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``k``
        below 1, ``margin`` negative or ``tau`` not positive.

    Numerics: relative error below 1e-4 for margins up to 80: sums of logarithms round.

    Source: Berrada, Zisserman and Kumar 2018, arXiv:1802.07595.

    >>> smooth_topk(jnp.float32([1, 1, 0]), 0, k=1, margin=0.0)
    Array(0.8619948, dtype=float32)
    """
    checked("k", k, lambda k: k >= 1, "at least 1")
    checked("margin", margin, lambda m: m >= 0, "at least 0")
    checked("tau", tau, lambda t: t > 0, "positive")
    z, score, rival, known = _rivals(logits, labels, axis, where)
    count = jnp.sum(rival, -1)
    tau = jnp.asarray(tau, z.dtype)
    enough = count >= k
    kept = min(k, z.shape[-1])
    kth = jax.lax.top_k(jax.lax.stop_gradient(jnp.where(rival, z, -jnp.inf)), kept)[0]
    kth = jnp.where(enough, kth[..., -1], 0)
    # Measured from the k-th rival, a score a thousand away changes no digit.
    x = (jnp.where(rival, z, 0) - jnp.where(rival, kth[..., None], 0)) / (k * tau)
    x = jnp.where(x > 1e3, 1e3, jnp.where(x < -1e3, -1e3, x))

    def add(log_sigma, item):
        x, rival = item
        grown = jnp.logaddexp(log_sigma[1:], log_sigma[:-1] + x[None])
        grown = jnp.concatenate([log_sigma[:1], grown])
        return jnp.where(rival[None], grown, log_sigma), None

    zero = 0 * x[None, ..., 0]  # laid out as the scores are
    empty = jnp.concatenate([zero] + k * [zero - 1e4 * k])
    items = jnp.moveaxis(x, -1, 0), jnp.moveaxis(rival, -1, 0)
    log_sigma, _ = jax.lax.scan(add, empty, items)
    gap = kth / k - jnp.where(enough, score, 0) / k
    lead = tau * (log_sigma[k] - log_sigma[k - 1]) + gap + margin
    # Far above 0 a softplus is the identity, which has no need to divide.
    far = lead > 1e4 * tau
    near = tau * jax.nn.softplus(jnp.where(far, 0, lead) / tau)
    loss = jnp.where(enough, jnp.where(far, lead, near), 0)
    return jnp.where(known, loss, jnp.nan)


def _rivals(logits, labels, axis, where):
    """Logits, label's score, the classes that compete with it, labels that exist."""
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    z = jnp.where(z > -jnp.inf, z, -jnp.inf)  # a hidden class gets no gradient
    is_label, known = label_mask(z, labels)
    score = jnp.sum(jnp.where(is_label, z, 0), -1)
    return z, score, ~is_label & (z > -jnp.inf), known


def _hinge(x, p=1):
    live = ~(x <= 0)
    x = jnp.where(live, x, 1)
    return jnp.where(live, x if p == 1 else x**p, 0)


def _one_versus_rest(logits, labels, margin, p, axis, where):
    checked("margin", margin, lambda m: m >= 0, "at least 0")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    z = jnp.where(z > -jnp.inf, z, -jnp.inf)
    shown, labels = z > -jnp.inf, jnp.asarray(labels)
    if labels.shape == jnp.shape(logits):
        positive, known = jnp.moveaxis(labels, axis, -1) > 0, True
    else:
        positive, known = label_mask(z, labels)
        shown = shown | (positive & jnp.any(shown, -1, keepdims=True))
    z = jnp.where(shown, z, 0)
    loss = _hinge(jnp.where(shown, margin - jnp.where(positive, z, -z), 0), p)
    return jnp.where(known, jnp.sum(loss, -1), jnp.nan)


def _row(loss, source, **facts):
    facts = dict(convex=True, smooth=False) | facts
    return rows.Row(loss, "example", rows.class_labels, source, **facts)


ROWS = (
    _row(
        multiclass_hinge,
        "Crammer and Singer 2001, JMLR 2",
        golden="robust_baselines",
        cost="margins to all rivals are kept for the gradient",
    ),
    _row(
        weston_watkins,
        "Weston and Watkins 1999",
        golden="standard_losses",
        cost="margins to all rivals are kept for the gradient",
    ),
    _row(
        lee_lin_wahba,
        "Lee, Lin and Wahba 2004, JASA 99",
        calibrated=True,
        cost="centred logits and their hinges are arrays of their own",
    ),
    _row(ovr_hinge, "Rifkin and Klautau 2004, JMLR 5", shift_invariant=False),
    _row(squared_hinge, "Rifkin and Klautau 2004, JMLR 5", shift_invariant=False),
    _row(l2_svm_loss, "Agarap 2018, arXiv:1709.03082", shift_invariant=False),
    _row(
        topk_hinge,
        "Lapin, Hein and Schiele 2015, arXiv:1511.06683",
        hyper=dict(k=2),
        gathers="the k best of a row are found on one device",
    ),
    _row(
        smooth_topk,
        "Berrada, Zisserman and Kumar 2018, arXiv:1802.07595",
        hyper=dict(k=2),
        convex=False,
        smooth=True,
        rtol=1e-4,
        gathers="classes are visited one after another",
    ),
)
