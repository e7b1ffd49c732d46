"""Losses for noisy labels that are a function of the softmax, mostly of the label's."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.labels import checked

__all__ = [
    "asymmetric_gce",
    "asymmetric_unhinged",
    "generalized_ce_loss",
    "js_loss",
    "normalized_ce_loss",
    "symmetric_ce_loss",
]


def symmetric_ce_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.1,
    beta: ArrayLike = 1.0,
    floor: ArrayLike = 1e-4,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Symmetric cross-entropy: cross-entropy plus its reverse.

    .. math:: \ell = -\alpha \log p_y - \beta \sum_c p_c \log \max([c = y], A)
        = -\alpha \log p_y - \beta \log A \, (1 - p_y)

    with ``floor`` :math:`A`. ``alpha=0`` is the reverse cross-entropy. Implementations
    clamp the probabilities to :math:`[10^{-7}, 1]` in the reverse term; we do not.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      alpha: weight of the cross-entropy, at least 0; the paper has 0.1 for CIFAR-10 and
        6 for CIFAR-100.
      beta: weight of the reverse, at least 0; 1 and 0.1 there.
      floor: what stands for probability 0 inside the logarithm, in (0, 1].
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``, or
        ``-beta * log(floor)`` without a cross-entropy.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), a
        negative weight, or ``floor`` outside (0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Wang et al. 2019, arXiv:1908.06112.

    >>> symmetric_ce_loss(jnp.float32([2, 1, 0]), 0)
    Array(3.1240048, dtype=float32)
    """
    checked("alpha", alpha, lambda a: a >= 0, "at least 0")
    checked("beta", beta, lambda b: b >= 0, "at least 0")
    checked("floor", floor, lambda a: (a > 0) & (a <= 1), "in (0, 1]")
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    # A tenth of a cost may fit where the cost does not.
    scale = jnp.where(_size(z) > jnp.finfo(z.dtype).max / 8, 0.25, 1)
    nll = numerics.label_nll(z * scale, labels)
    alpha, beta, floor = (jnp.asarray(a, nll.dtype) for a in (alpha, beta, floor))
    off = (alpha == 0) & ~jnp.isnan(nll)
    alpha = jnp.where(nll > 1e9, alpha / scale[..., 0], alpha)
    forward = jnp.where(off, 0, alpha * jnp.where(off, 0, nll))
    return forward - beta * jnp.log(floor) * _rise(nll)


def generalized_ce_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    q: ArrayLike = 0.7,
    k: ArrayLike = 0.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Generalized cross-entropy: between cross-entropy and mean absolute error.

    .. math:: \ell = \frac{1 - \max(p_y, k)^q}{q}

    The same as ``comp_sum_loss`` with ``tau = 1 + q`` where it is not truncated.
    ``k=0.5`` is the paper's truncated version: examples with :math:`p_y \le k` cost a
    constant. It is off by default, since it is another loss.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      q: positive; towards 0 the cross-entropy, 1 is :math:`1 - p_y`.
      k: where it is truncated, in [0, 1).
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does, the largest value.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``q`` not
        positive or ``k`` outside [0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhang and Sabuncu 2018, arXiv:1805.07836.

    >>> generalized_ce_loss(jnp.float32([2, 1, 0]), 0, q=1.0)
    Array(0.334759, dtype=float32)
    """
    checked("q", q, lambda q: q > 0, "positive")
    checked("k", k, lambda k: (k >= 0) & (k < 1), "in [0, 1)")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    cut = -jnp.log(jnp.asarray(k, nll.dtype))
    return _rise(q * jnp.where(nll >= cut, cut, nll)) / q


def normalized_ce_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Normalised cross-entropy: the label's share of all the labels' costs.

    .. math:: \ell = \frac{\log p_y}{\sum_c \log p_c}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs 1, the limit.

    Returns:
      The loss in [0, 1], float32 (float64 for float64 logits). 0 where no class is left
      but the label.

    Raises:
      ValueError: wrong label shape, or a label out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Ma et al. 2020, arXiv:2006.13554.

    >>> normalized_ce_loss(jnp.float32([1, 1, 1, 1]), 0)
    Array(0.25, dtype=float32)
    """
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    shown = z > -jnp.inf
    # Where a sum of costs could overflow, all are scaled: a ratio does not care.
    z = z * jnp.where(_size(z) > jnp.finfo(z.dtype).max * 2.0**-40, 2.0**-40, 1)
    nll = numerics.label_nll(z, labels)
    known = ~jnp.isnan(nll)
    classes = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    rival = shown & (classes != jnp.asarray(labels)[..., None])
    rest = -jnp.sum(jnp.where(rival, numerics.log_softmax(z), 0), -1)
    return jnp.where(known, _share(jnp.where(known, nll, 0), rest), jnp.nan)


def asymmetric_gce(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    a: ArrayLike = 1.0,
    q: ArrayLike = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Asymmetric generalised cross-entropy.

    .. math:: \ell = \frac{(a + 1)^q - (a + p_y)^q}{q}

    ``a=0`` is ``generalized_ce_loss``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      a: at least 0.
      q: positive.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does, the largest value.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``a``
        negative or ``q`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhou et al. 2021, arXiv:2106.03110.

    >>> asymmetric_gce(jnp.float32([0, 0]), 0)
    Array(0.875, dtype=float32)
    """
    checked("a", a, lambda a: a >= 0, "at least 0")
    checked("q", q, lambda q: q > 0, "positive")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    a = jnp.asarray(a, nll.dtype)
    # log((a + p) / (a + 1)), from whichever end of p is near.
    sure = nll < 0.5
    from_one = jnp.log1p(-_rise(jnp.where(sure, nll, 0)) / (a + 1))
    from_zero = jnp.logaddexp(jnp.log(a), jnp.where(sure, 1, -nll)) - jnp.log1p(a)
    return (a + 1) ** q * _rise(-q * jnp.where(sure, from_one, from_zero)) / q


def asymmetric_unhinged(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    a: ArrayLike = 1.5,
    q: ArrayLike = 0.9,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Asymmetric unhinged loss.

    .. math:: \ell = \frac{(a - p_y)^q - (a - 1)^q}{q}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      a: at least 1.
      q: positive.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does, the largest value.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), ``a``
        below 1 or ``q`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhou et al. 2021, arXiv:2106.03110.

    >>> asymmetric_unhinged(jnp.float32([0, 0]), 0, a=1.0, q=1.0)
    Array(0.5, dtype=float32)
    """
    checked("a", a, lambda a: a >= 1, "at least 1")
    checked("q", q, lambda q: q > 0, "positive")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    miss = _rise(nll)
    room = jnp.asarray(a, nll.dtype) - 1
    some = room > 0
    ratio = miss / jnp.where(some, room, 1)
    above = jnp.where(some, room, 1) ** q * jnp.expm1(q * jnp.log1p(ratio)) / q
    zero = miss == 0
    alone = jnp.where(zero, 0, jnp.where(zero, 1, miss) ** q / q)
    return jnp.where(some, above, alone)


def js_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Jensen-Shannon divergence of the label and the softmax, scaled.

    .. math:: \ell = \frac{w\,\mathrm{KL}(e_y \| m) + (1-w)\,\mathrm{KL}(p \| m)}
        {-(1-w) \log(1-w)}, \quad m = w e_y + (1-w) p

    Towards ``weight=0`` the cross-entropy, towards 1 half of the L1 distance,
    :math:`1 - p_y`.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      weight: :math:`w`, of the label, in (0, 1).
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does, the largest value.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``weight`` outside (0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 and
      weights of at least 0.01.

    Source: Englesson and Azizpour 2021, arXiv:2105.04522.

    >>> js_loss(jnp.float32([-80, 0]), 0)
    Array(2., dtype=float32)
    """
    checked("weight", weight, lambda w: (w > 0) & (w < 1), "in (0, 1)")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    w = jnp.asarray(weight, nll.dtype)
    v, log_v = 1 - w, jnp.log1p(-w)
    nll = jnp.minimum(nll, 1e3)  # the label's probability is 0 before that
    p, miss = jnp.exp(-nll), _rise(nll)
    log_m = jnp.log1p(-v * miss)
    sure = nll < 0.5
    m = 1 - v * jnp.where(sure, miss, 0)
    log_ratio = jnp.where(
        sure, jnp.log1p(-w * jnp.where(sure, miss, 0) / m), -nll - log_m
    )
    return (v * (p * log_ratio - miss * log_v) - w * log_m) / (-v * log_v)


def _size(z):
    """Largest finite magnitude of a row."""
    z = jnp.where(z > -jnp.inf, jax.lax.stop_gradient(z), 0)
    return jnp.max(jnp.abs(z), -1, keepdims=True)


# jnp.expm1 is exact, its derivative is not: it adds 1 to the value.
@jax.custom_jvp
def _rise(x):
    """``1 - exp(-x)``."""
    return -jnp.expm1(-x)


@_rise.defjvp
def _rise_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _rise(x), jnp.exp(-x) * dx


@jax.custom_jvp
def _share(part, rest):
    """``part / (part + rest)``; 0 / 0 is 0 and ``inf`` takes all."""
    total = part + rest
    share = part / jnp.where((total == 0) | (part == jnp.inf), 1, total)
    return jnp.where(part == jnp.inf, 1, share)


@_share.defjvp
def _share_jvp(primals, tangents):
    (part, rest), (dpart, drest) = primals, tangents
    share = _share(part, rest)
    degenerate = (part == jnp.inf) | (part + rest == 0)
    total = jnp.where(degenerate, 1, part + rest)
    other = jnp.where(degenerate, 0, rest / total)
    gain = jnp.where(degenerate, 0, share / total)
    return share, other * (dpart / total) - gain * drest


def _row(loss, source, upper=None, **facts):
    facts = dict(golden="robust_baselines", label_only=True) | facts
    return rows.Row(loss, "example", rows.class_labels, source, upper=upper, **facts)


ROWS = (
    _row(symmetric_ce_loss, "Wang et al. 2019, arXiv:1908.06112", calibrated=True),
    _row(
        generalized_ce_loss,
        "Zhang and Sabuncu 2018, arXiv:1805.07836",
        upper=1 / 0.7,
        calibrated=True,
    ),
    _row(
        normalized_ce_loss,
        "Ma et al. 2020, arXiv:2006.13554",
        1.0,
        label_only=False,
        cost="needs the log-probabilities of all classes twice",
    ),
    _row(asymmetric_gce, "Zhou et al. 2021, arXiv:2106.03110", upper=1.5),
    _row(
        asymmetric_unhinged,
        "Zhou et al. 2021, arXiv:2106.03110",
        upper=(1.5**0.9 - 0.5**0.9) / 0.9,
    ),
    _row(js_loss, "Englesson and Azizpour 2021, arXiv:2105.04522", upper=2.0),
)
