"""Distillation without a teacher: soft labels that a model makes for itself."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import scores
from logitlab.losses.distillation._relative_entropy import cross
from logitlab.numerics.arguments import check_same_shape, one_hot_mask, weighted

__all__ = ["uskd_parts", "uskd_loss"]


RankStudent = Literal["log_prob", "prob"]


def uskd_parts(
    logits: ArrayLike,
    weak_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 0.1,
    mu: ArrayLike = 0.005,
    rank_student: RankStudent = "log_prob",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""Universal self-knowledge distillation (USKD): its three parts per example.

    .. math:: \ell = \alpha (-P \log q_y) +
        \beta \Bigl(-\sum_{c \ne y} \hat z_c \log \hat q_c\Bigr) +
        \mu \Bigl(-\sum_c (0.9 [c = y] + 0.1 / C) \log v_c\Bigr)

    with q the softmax of the logits, :math:`\hat q` that of the classes but the label,
    v that of an auxiliary ("weak") head on an intermediate feature, and, all without a
    gradient, :math:`P = q_y^2 + 1 - \mathrm{mean}(q_y^2)` over the batch and Zipf
    weights :math:`\hat z_c \propto 1 / k_c`, :math:`k_c` the place of the class among
    all C, label included, by decreasing

    .. math:: \frac{v_c}{1 - v_y + 10^{-6}} + \frac{u_c}{1 - u_y + 10^{-6}}

    where u is the student's log-probability, as in the code that the published numbers
    come from, or its probability, as in the paper. The objective adds a plain
    cross-entropy. A sharded batch has one mean, that of all of it.

    Shapes: logits [..., C], weak_logits [..., C], labels [...], where [..., C], mask [...] -> [...], [...], [...]

    Args:
      logits: the student's; ``-inf`` is the same as ``where=False``.
      weak_logits: of the auxiliary head; they learn from the third part alone.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a mixture of two
        labels: the two largest entries count (the second of a one-hot one too, with no
        weight), each with its own mean of squares, and none of them is in the second
        part.
      alpha: weight of the first part; (1, 0.1, 0.005) on ImageNet, 0.1 each on
        CIFAR-100.
      beta: weight of the second part.
      mu: weight of the third part.
      rank_student: what u is, ``"log_prob"`` or ``"prob"``.
      axis: the class axis.
      where: bool, the classes that take part; C counts them.
      mask: bool, the examples that the mean is taken over; the others cost 0.

    Returns:
      A dict of ``target``, ``non_target`` and ``weak``, each with its weight, in nats,
      float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes differ, wrong label shape, a label of C or more (NaN under
        ``jit``), or an unknown ``rank_student``.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, given
      the ranks.

    Source: From Knowledge Distillation to Self-Knowledge Distillation, Yang et al.
      2023, arXiv:2303.13005.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import uskd_parts
    >>> parts = uskd_parts(jnp.zeros(2), jnp.zeros(2), 0)
    >>> parts["target"]  # P of a batch of one is 1
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if rank_student not in ("log_prob", "prob"):
        raise ValueError(
            f"rank_student is {rank_student!r}, expected 'log_prob' or 'prob'"
        )
    check_same_shape("weak_logits", weak_logits, "logits", jnp.shape(logits))
    s = numerics.prepare_logits(logits, axis=axis, where=where)
    w = numerics.prepare_logits(weak_logits, axis=axis, where=where, name="weak_logits")
    shown = s > -jnp.inf
    w = jnp.where(shown, w.astype(s.dtype), -jnp.inf)
    keep = numerics.check_mask(mask, s.shape[:-1])
    mixed = jnp.issubdtype(jnp.result_type(labels), jnp.floating)
    if mixed:
        check_same_shape("labels", labels, "logits", jnp.shape(logits))
        labels = jnp.moveaxis(jnp.asarray(labels), axis, -1).astype(s.dtype)
        slots, known = _two_largest(labels), jnp.ones(s.shape[:-1], bool)
    else:
        labels = numerics.wide_labels(labels)
        if labels.shape == keep.shape:  # what is left out may have any label
            labels = jnp.where(keep, labels, -1)
        at, known = one_hot_mask(s, labels)
        slots = [(at, jnp.ones(s.shape[:-1], s.dtype))]
    s, w = (jnp.where(keep[..., None], z, 0) for z in (s, w))
    q, v = (numerics.log_softmax(scores(z)) for z in (s, w))
    target = sum(_target(q, at, value, keep) for at, value in slots)
    label = slots[0][0] if len(slots) == 1 else slots[0][0] | slots[1][0]
    zipf = _zipf(q, v, label, rank_student)
    non_target = cross(zipf, jnp.where(label, -jnp.inf, s))
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1)
    smooth = labels if mixed else jnp.where(label, 1, 0).astype(s.dtype)
    smooth = jnp.where(shown, 0.9 * smooth + 0.1 / count.astype(s.dtype), 0)
    weak = -jnp.sum(weighted(smooth, v), -1)
    parts = {
        "target": weighted(alpha, target, "alpha"),
        "non_target": weighted(beta, non_target, "beta"),
    }
    parts["weak"] = weighted(mu, weak, "mu")
    keep = keep & jnp.any(shown, -1)
    return {
        name: jnp.where(keep, jnp.where(known, part, jnp.nan), 0)
        for name, part in parts.items()
    }


def uskd_loss(
    logits: ArrayLike,
    weak_logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 0.1,
    mu: ArrayLike = 0.005,
    rank_student: RankStudent = "log_prob",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Universal self-knowledge distillation (USKD), one number for a batch.

    Use it when there is no teacher: the model makes soft labels itself.

    .. math:: \ell = \frac1N \sum_n (\alpha \ell_n^{target} +
        \beta \ell_n^{non-target} + \mu \ell_n^{weak})

    the mean of the parts of ``uskd_parts``, where arguments and errors stand. The objective
    adds a plain cross-entropy.

    Shapes: logits [..., C], weak_logits [..., C], labels [...], where [..., C], mask [...] -> []

    Returns:
      Nats, float32 (float64 for float64 logits).

    Numerics: as ``uskd_parts``.

    Source: Yang et al. 2023, arXiv:2303.13005.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import uskd_loss
    >>> uskd_loss(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.array([0]), mu=1.0)
    Array(1.3862944, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    parts = uskd_parts(
        logits,
        weak_logits,
        labels,
        alpha=alpha,
        beta=beta,
        mu=mu,
        rank_student=rank_student,
        axis=axis,
        where=where,
        mask=mask,
    )
    return numerics.masked_mean(sum(parts.values()), mask)


def _two_largest(labels):
    """Where the two largest entries are, and their values."""
    slots = []
    for _ in range(min(2, labels.shape[-1])):
        at = numerics.is_label(labels, jnp.argmax(labels, -1))
        slots.append((at, jnp.max(labels, -1)))
        labels = jnp.where(at, -jnp.inf, labels)
    return slots


def _target(q, at, value, keep):
    shown = at & (q > -jnp.inf)
    log_q = jnp.sum(jnp.where(shown, q, 0), -1)
    square = jnp.where(jnp.any(shown, -1), jnp.exp(2 * log_q), 0)
    weight = square + value - numerics.masked_mean(square, keep)
    weight = jax.lax.stop_gradient(jnp.where(value > 0, weight, 0))
    log_q = jnp.sum(jnp.where(at, q, 0), -1)  # -inf where the label is hidden
    return weighted(weight, -log_q)


def _zipf(q, v, label, rank_student):
    """Logs of the weights by rank, up to a constant and without a gradient."""
    q, v = jax.lax.stop_gradient((q, v))
    shown = q > -jnp.inf
    own = label & shown
    score = jnp.zeros_like(q)
    for log_p in (v, q):
        u = jnp.where(shown, log_p, 0)
        if log_p is q and rank_student == "log_prob":
            rest = 1 - jnp.sum(jnp.where(own, u, 0), -1, keepdims=True)
        else:
            u = jnp.where(shown, jnp.exp(u), 0)
            rest = jnp.sum(jnp.where(own, 0, u), -1, keepdims=True)
        score += u / (rest + 1e-6)
    order = jnp.argsort(jnp.where(shown, -score, jnp.inf), -1, stable=True)
    place = jnp.argsort(order, -1).astype(q.dtype)
    others = shown & ~label
    return jnp.where(others, -jnp.log1p(place), -jnp.inf)
