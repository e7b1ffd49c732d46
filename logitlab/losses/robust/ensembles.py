"""A freshly drawn calibrated loss at every step, known by its derivative only."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked, label_mask

__all__ = ["ensloss", "ensloss_derivatives", "multiclass_ensloss"]

NOT_LOSSES = ("ensloss_derivatives",)


def ensloss(
    logits: ArrayLike,
    labels: ArrayLike,
    key: jax.Array | None,
    *,
    lam: ArrayLike = 0.0,
    normal_draws: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch whose gradient is that of a random calibrated binary loss.

    .. math:: \frac1n \sum_i \mathrm{sg}(g_i)\, m_i, \quad m_i = (2 t_i - 1) s_i

    with :math:`g` from ``ensloss_derivatives``. The value is not a risk; only its
    gradient means anything.

    Shapes: logits [..., N], labels [..., N], mask [..., N] -> [...]

    Args:
      logits: one score per example.
      labels: 0 or 1.
      key: of ``jax.random``, a fresh one for every step; not used with
        ``normal_draws``.
      lam: Box-Cox parameter; 0 in every published run. May be traced.
      normal_draws: standard normal numbers of the logits' shape in place of ``key``.
      mask: bool, the examples that take part. Their own draws are shared among them.

    Returns:
      The mean of :math:`g_i m_i`, float32 (float64 for float64 logits); 0 without
      examples.

    Raises:
      ValueError: labels of another shape or not 0 or 1 (NaN under ``jit``).

    Numerics: relative error below 1e-5 for the same draws, which are made in float32.

    Source: EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> draws = jnp.zeros(2)  # both derivatives are -1
    >>> ensloss(jnp.float32([0.5, 1.0]), jnp.array([1, 0]), None, normal_draws=draws)
    Array(0.25000024, dtype=float32)
    """
    s = numerics.promote(logits)
    if s.ndim == 0:
        raise ValueError("logits has shape (), expected examples on the last axis")
    t, keep = jnp.asarray(labels), numerics.kept(mask, s.shape)
    if t.shape != s.shape:
        raise ValueError(f"labels has shape {t.shape}, expected {s.shape}")
    bad = keep & ~((t == 0) | (t == 1))
    if not isinstance(bad, jax.core.Tracer) and bad.any():
        raise ValueError(f"labels other than 0 and 1: {t[bad][:5]}")
    margins = jnp.where(keep, jnp.where(t == 1, s, -s), 0)
    g = _derivatives(margins, key, normal_draws, keep, lam, -1.0, 1e-6)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(s.dtype)
    terms = jnp.where(bad, jnp.nan, jnp.where(keep, g * margins / count, 0))
    return jnp.sum(terms, -1)


def ensloss_derivatives(
    margins: ArrayLike,
    key: jax.Array | None,
    *,
    lam: ArrayLike = 0.0,
    floor: ArrayLike = -1.0,
    eps: ArrayLike = 1e-6,
    normal_draws: ArrayLike | None = None,
) -> jax.Array:
    r"""Derivatives of a random convex calibrated loss at these margins.

    .. math:: r = \mathrm{sort}(\max(-e_i, \mathrm{floor})), \quad
        e_i = (1 + \lambda u_i)_+^{1/\lambda}, \; u_i \sim N(0, 1)

    The smallest derivative goes to the smallest margin (convexity), is divided by a
    margin above 1 (a slow tail), and lowered by ``eps`` (calibration). They get no
    gradient. ``losses.ensloss`` multiplies them with binary margins,
    ``losses.multiclass_ensloss`` with those of classes.

    Shapes: margins [..., N] -> [..., N]

    Args:
      margins: signed scores, positive where the prediction is right.
      key: of ``jax.random``; not used with ``normal_draws``.
      lam: Box-Cox parameter, :math:`e_i = \exp(u_i)` for 0. May be traced.
      floor: the steepest derivative, negative.
      eps: at least 0.
      normal_draws: standard normal numbers of the margins' shape in place of ``key``.

    Raises:
      ValueError: ``floor`` not negative, ``eps`` negative, or draws of another shape.

    Source: EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> draws = jnp.float32([-1, 0])
    >>> ensloss_derivatives(jnp.float32([0.5, -1]), None, normal_draws=draws)
    Array([-0.36788046, -1.000001  ], dtype=float32)
    """
    checked("floor", floor, lambda f: f < 0, "negative")
    checked("eps", eps, lambda e: e >= 0, "at least 0")
    m = numerics.promote(margins, "margins")
    keep = jnp.ones(m.shape, bool)
    return _derivatives(m, key, normal_draws, keep, lam, floor, eps)


def multiclass_ensloss(
    logits: ArrayLike,
    labels: ArrayLike,
    key: jax.Array | None,
    *,
    kind: str = "margin",
    lam: ArrayLike = 0.0,
    normal_draws: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: ``ensloss`` for classes, an extension of ours.

    .. math:: \frac1n \sum_i \mathrm{sg}(g_i)\, m_i, \quad
        m_i = z_{i, y_i} - \max_{c \ne y_i} z_{i, c}

    or, for ``kind="ovr"``, ``ensloss`` of every class against the rest, each with its
    own draws, added up. The paper has two classes only. The value is not a risk; only
    its gradient means anything. Two classes of scores s and 0 give ``ensloss`` of s.

    Shapes: logits [..., N, C], labels [..., N], where [..., N, C], mask [..., N]
      -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      key: of ``jax.random``, a fresh one for every step; not used with
        ``normal_draws``.
      kind: ``margin`` or ``ovr``.
      lam: Box-Cox parameter; 0 in every published run. May be traced.
      normal_draws: standard normal numbers in place of ``key``, one per example,
        [..., N], for ``ovr`` one per class and example, [..., C, N].
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``; an
        example without another class costs 0.
      mask: bool, the examples that take part.

    Returns:
      The mean of :math:`g_i m_i`, float32 (float64 for float64 logits); 0 without
      examples.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: an unknown ``kind``, no axis of examples, wrong shapes, or a label out
        of range (NaN under ``jit``).

    Numerics: relative error below 1e-5 for the same draws, which are made in float32.

    Source: [inferred] from EnsLoss, ICML 2025, github.com/statmlben/ensLoss.

    >>> z, draws = jnp.float32([[0.5, 0], [1, 0]]), jnp.zeros(2)
    >>> multiclass_ensloss(z, jnp.array([0, 1]), None, normal_draws=draws)
    Array(0.25000024, dtype=float32)
    """
    if kind not in ("margin", "ovr"):
        raise ValueError(f"kind is {kind!r}, expected 'margin' or 'ovr'")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected [..., N, C]")
    y, keep = jnp.asarray(labels), numerics.kept(mask, z.shape[:-1])
    if mask is not None:
        y = jnp.where(keep, y, 0) if y.shape == keep.shape else y
        z = jnp.where(keep[..., None], z, 0)
    is_label, known = label_mask(z, y)
    shown = z > -jnp.inf
    some = shown.any(-1)
    # Half the margins: a difference of two scores may overflow, this does not.
    half = jnp.where(shown, z, 0) / 2
    lost = keep & some & ~jnp.any(is_label & shown, -1)
    count = jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1).astype(z.dtype)
    if kind == "margin":
        rival = shown & ~is_label
        used = keep & rival.any(-1)
        rivals = jnp.max(jnp.where(rival, half, -jnp.inf), -1)
        score = jnp.sum(jnp.where(is_label, half, 0), -1)
        h = score - jnp.where(used, rivals, 0)
    else:
        used = jnp.moveaxis(shown & keep[..., None], -1, -2)
        h = jnp.moveaxis(jnp.where(is_label, half, -half), -1, -2)
        count = count[..., None, :]
    h = jnp.where(used, h, 0)
    g = _derivatives(h, key, normal_draws, used, lam, -1.0, 1e-6, unit=0.5)
    terms = jnp.where(used, 2 * g / count * h, 0)
    terms = terms if kind == "margin" else jnp.sum(terms, -2)
    terms = jnp.where(keep & ~known, jnp.nan, jnp.where(lost, jnp.inf, 0) + terms)
    return jnp.sum(terms, -1)


def _derivatives(margins, key, draws, keep, lam, floor, eps, unit=1.0):
    """Derivatives at ``margins / unit``."""
    m, keep = _whole(jax.lax.stop_gradient(margins)), _whole(keep)
    if draws is None:
        draws = jax.random.normal(key, m.shape, jnp.float32)
    u = _whole(jnp.asarray(draws).astype(m.dtype))
    if u.shape != m.shape:
        raise ValueError(f"normal_draws has shape {u.shape}, expected {m.shape}")
    lam = jnp.asarray(lam, m.dtype)
    base = 1 + lam * u
    inside = (base > 0) & (lam != 0)
    curved = jnp.log(jnp.where(inside, base, 1)) / jnp.where(inside, lam, 1)
    outside = jnp.where(lam < 0, jnp.inf, -jnp.inf)
    log_e = jnp.where(lam == 0, u, jnp.where(inside, curved, outside))
    r = jnp.maximum(-jnp.exp(log_e), floor)
    # Examples left out go to the end of both queues, where they meet each other.
    r = jnp.sort(jnp.where(keep, r, jnp.inf), -1)
    place = jnp.argsort(jnp.argsort(jnp.where(keep, m, jnp.inf), -1), -1)
    g = jnp.take_along_axis(r, place, -1)
    g = jnp.where(keep, g / jnp.where(m > unit, m / unit, 1), 0)
    return jax.lax.stop_gradient(g) - eps


def _whole(array):
    """Asks an Explicit mesh for the whole batch, which is then sorted everywhere."""
    sharding = jax.typeof(array).sharding
    if array.ndim == 0 or sharding.spec[-1] is None:
        return array
    spec = jax.sharding.PartitionSpec(*sharding.spec[:-1], None)
    sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
    return jax.sharding.reshard(array, sharding)


def _binary_batch(key, shape, dtype):
    logits, labels = rows.binary_labels(key, shape, dtype)
    return logits, labels, jax.random.fold_in(key, 1)


def _class_batch(key, shape, dtype):
    logits, labels = rows.class_labels(key, shape, dtype)
    return logits, labels, jax.random.fold_in(key, 1)


ROWS = (
    rows.Row(
        multiclass_ensloss,
        "batch",
        _class_batch,
        "Inferred from EnsLoss, ICML 2025, github.com/statmlben/ensLoss",
        lower=None,
        smooth=False,
        surrogate="only the derivative of the drawn loss is known",
        gathers="a batch is sorted on one device",
        note="An extension of ours to more than two classes",
    ),
    rows.Row(
        ensloss,
        "batch",
        _binary_batch,
        "EnsLoss, ICML 2025, github.com/statmlben/ensLoss",
        golden="ensloss",
        shift_invariant=False,
        lower=None,
        calibrated=True,
        where=False,
        smooth=False,
        surrogate="only the derivative of the drawn loss is known",
        gathers="a batch is sorted on one device",
        shape=(6,),
    ),
)
