"""Distillation without a teacher: soft labels that a model makes for itself."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.pairs import (
    half_log_probs,
    half_scores,
    mass_times,
    same_shape,
)
from logitlab.losses.distillation.relative_entropy import cross
from logitlab.losses.labels import label_mask
from logitlab.losses.rows import Row, class_labels

__all__ = ["uskd", "uskd_total"]

NOT_LOSSES = ("uskd",)

RankStudent = Literal["log_prob", "prob"]


def uskd(
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
    r"""Universal self-knowledge distillation, its three parts for each example.

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
      ValueError: the shapes differ, wrong label shape, a label out of range (NaN under
        ``jit``), or an unknown ``rank_student``.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, given
      the ranks.

    Source: From Knowledge Distillation to Self-Knowledge Distillation, Yang et al.
      2023, arXiv:2303.13005.

    >>> parts = uskd(jnp.zeros(2), jnp.zeros(2), 0)
    >>> parts["target"]  # P of a batch of one is 1
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if rank_student not in ("log_prob", "prob"):
        raise ValueError(
            f"rank_student is {rank_student!r}, expected 'log_prob' or 'prob'"
        )
    same_shape("weak_logits", weak_logits, "logits", jnp.shape(logits))
    s = numerics.class_axis_last(logits, axis=axis, where=where)
    w = numerics.class_axis_last(
        weak_logits, axis=axis, where=where, name="weak_logits"
    )
    shown = s > -jnp.inf
    w = jnp.where(shown, w.astype(s.dtype), -jnp.inf)
    labels = jnp.asarray(labels)
    mixed = jnp.issubdtype(labels.dtype, jnp.floating)
    if mixed:
        same_shape("labels", labels, "logits", jnp.shape(logits))
        labels = jnp.moveaxis(labels, axis, -1).astype(s.dtype)
        slots, known = _two_largest(labels), jnp.ones(s.shape[:-1], bool)
    else:
        at, known = label_mask(s, labels)
        slots = [(at, jnp.ones(s.shape[:-1], s.dtype))]
    keep = numerics.kept(mask, s.shape[:-1])
    s, w = (jnp.where(keep[..., None], z, 0) for z in (s, w))
    q, v = half_log_probs(s), half_log_probs(w)
    target = sum(_target(q, at, value, keep) for at, value in slots)
    label = slots[0][0] if len(slots) == 1 else slots[0][0] | slots[1][0]
    zipf = _zipf(q, v, label, rank_student)
    others = half_scores(jnp.where(label, -jnp.inf, s))
    non_target = cross(zipf, others)
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1)
    smooth = labels if mixed else jnp.where(label, 1, 0).astype(s.dtype)
    smooth = jnp.where(shown, 0.9 * smooth + 0.1 / count.astype(s.dtype), 0)
    weak = -jnp.sum(mass_times(smooth, v), -1)
    parts = {"target": alpha * target, "non_target": beta * non_target}
    parts["weak"] = mu * weak
    keep = keep & jnp.any(shown, -1)
    return {
        name: jnp.where(keep, jnp.where(known, part, jnp.nan), 0)
        for name, part in parts.items()
    }


def uskd_total(
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
    r"""Universal self-knowledge distillation, one number for a batch.

    .. math:: \ell = \frac1N \sum_n (\alpha \ell_n^{target} +
        \beta \ell_n^{non-target} + \mu \ell_n^{weak})

    the mean of the parts of ``uskd``, where arguments and errors stand. The objective
    adds a plain cross-entropy.

    Shapes: logits [..., C], weak_logits [..., C], labels [...], where [..., C], mask [...] -> []

    Returns:
      Nats, float32 (float64 for float64 logits).

    Numerics: as ``uskd``.

    Source: Yang et al. 2023, arXiv:2303.13005.

    >>> uskd_total(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.array([0]), mu=1.0)
    Array(1.3862944, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    parts = uskd(
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
    log_q = 2 * jnp.sum(jnp.where(at & (q > -jnp.inf), q, 0), -1)
    square = jnp.where(jnp.any(at & (q > -jnp.inf), -1), jnp.exp(2 * log_q), 0)
    weight = square + value - numerics.masked_mean(square, keep)
    weight = jax.lax.stop_gradient(jnp.where(value > 0, weight, 0))
    cost = 2 * jnp.sum(jnp.where(at, mass_times(weight[..., None], q / 2), 0), -1)
    return -cost


def _zipf(q, v, label, rank_student):
    """Halves of the logs of the weights by rank, without a gradient."""
    q, v = jax.lax.stop_gradient((2 * q, 2 * v))
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
    return half_scores(jnp.where(others, -jnp.log1p(place), -jnp.inf))


def _with_weak_head(key, shape, dtype):
    weak, rest = jax.random.split(key)
    logits, labels = class_labels(rest, shape, dtype)
    return logits, 3 * jax.random.normal(weak, shape, dtype), labels


ROWS = (
    Row(
        uskd_total,
        "batch",
        _with_weak_head,
        "USKD, Yang et al. 2023, arXiv:2303.13005",
        golden="uskd",
        gathers="classes are ranked",
        cost="classes are ranked, and two softmaxes besides the weak head's",
        surrogate="soft labels are constants",
    ),
)
