"""Losses for noisy labels that are a function of the softmax, mostly of the label's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, expected, hyper, weighted

__all__ = [
    "asymmetric_gce_loss",
    "asymmetric_unhinged_loss",
    "generalized_cross_entropy",
    "js_label_noise_loss",
    "normalized_cross_entropy",
    "symmetric_cross_entropy",
]


def symmetric_cross_entropy(
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

    Use it when you add a term that tolerates noise to cross-entropy.

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
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), a
        negative weight, or ``floor`` outside (0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Wang et al. 2019, arXiv:1908.06112.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import symmetric_cross_entropy
    >>> symmetric_cross_entropy(jnp.float32([2, 1, 0]), 0)
    Array(3.1240048, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    alpha = hyper("alpha", alpha, z.dtype, lambda a: a >= 0, "at least 0")
    beta = hyper("beta", beta, z.dtype, lambda b: b >= 0, "at least 0")
    floor = hyper("floor", floor, z.dtype, lambda a: (a > 0) & (a <= 1), "in (0, 1]")
    nll = numerics.label_nll(z, labels)
    return weighted(alpha, nll) + beta * jnp.log(floor) * numerics.expm1(-nll)


def generalized_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    q: ArrayLike = 0.7,
    k: ArrayLike = 0.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Generalized cross-entropy: between cross-entropy and mean absolute error.

    Use it when some labels are wrong: ``q`` moves from cross-entropy to the absolute
    error.

    .. math:: \ell = \frac{1 - \max(p_y, k)^q}{q}

    The same as ``comp_sum_loss`` with ``tau = 1 + q`` where it is not truncated.
    ``k=0.5`` is the paper's truncated version: examples with :math:`p_y \le k` cost a
    constant. It is off by default: an untrained network of three classes or more has no
    slope under it, so that it is for one that was trained with ``k=0`` before. Of a
    distribution over classes it is the mean, :math:`\sum_c q_c \ell_c`.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      q: positive; towards 0 the cross-entropy, 1 is :math:`1 - p_y`.
      k: where it is truncated, in [0, 1).
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`p_y = 0` does, the largest value.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``q`` not
        positive or ``k`` outside [0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhang and Sabuncu 2018, arXiv:1805.07836.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import generalized_cross_entropy
    >>> generalized_cross_entropy(jnp.float32([2, 1, 0]), 0, q=1.0)
    Array(0.334759, dtype=float32)
    """
    check_range("q", q, lambda q: q > 0, "positive")
    check_range("k", k, lambda k: (k >= 0) & (k < 1), "in [0, 1)")

    def loss(nll):
        power, cut = hyper("q", q, nll.dtype), -jnp.log(hyper("k", k, nll.dtype))
        return -numerics.expm1(-power * jnp.where(nll >= cut, cut, nll)) / power

    return expected(loss, logits, labels, axis=axis, where=where)


def normalized_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Normalized cross-entropy: the label's share of the summed losses.

    Use it when you need a loss that is provably robust to symmetric noise.

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
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Ma et al. 2020, arXiv:2006.13554.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import normalized_cross_entropy
    >>> normalized_cross_entropy(jnp.float32([1, 1, 1, 1]), 0)
    Array(0.25, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    shown = z > -jnp.inf
    nll = numerics.label_nll(z, labels)
    known = ~jnp.isnan(nll)
    rival = shown & ~numerics.is_label(z, numerics.wide_labels(labels))
    rest = -jnp.sum(jnp.where(rival, numerics.log_softmax(z), 0), -1)
    return jnp.where(known, _share(jnp.where(known, nll, 0), rest), jnp.nan)


def asymmetric_gce_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    a: ArrayLike = 1.0,
    q: ArrayLike = 2.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Asymmetric generalised cross-entropy.

    Use it when the right label is still the most frequent one, and you may tune ``q``.

    .. math:: \ell = \frac{(a + 1)^q - (a + p_y)^q}{q}

    ``a=0`` is ``generalized_cross_entropy``.

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
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``a``
        negative or ``q`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhou et al. 2021, arXiv:2106.03110.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import asymmetric_gce_loss
    >>> asymmetric_gce_loss(jnp.float32([0, 0]), 0)
    Array(0.875, dtype=float32)
    """
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    a = hyper("a", a, nll.dtype, lambda a: a >= 0, "at least 0")
    q = hyper("q", q, nll.dtype, lambda q: q > 0, "positive")
    # log((a + p) / (a + 1)), from whichever end of p is near.
    sure = nll < 0.5
    from_one = jnp.log1p(numerics.expm1(-jnp.where(sure, nll, 0)) / (a + 1))
    from_zero = jnp.logaddexp(jnp.log(a), jnp.where(sure, 1, -nll)) - jnp.log1p(a)
    return (a + 1) ** q * -numerics.expm1(q * jnp.where(sure, from_one, from_zero)) / q


def asymmetric_unhinged_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    a: ArrayLike = 1.5,
    q: ArrayLike = 0.9,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Asymmetric unhinged loss.

    Use it when as above, with a loss that is linear in the probabilities.

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
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``a``
        below 1 or ``q`` not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Zhou et al. 2021, arXiv:2106.03110.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import asymmetric_unhinged_loss
    >>> asymmetric_unhinged_loss(jnp.float32([0, 0]), 0, a=1.0, q=1.0)
    Array(0.5, dtype=float32)
    """
    check_range("a", a, lambda a: a >= 1, "at least 1")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    q = hyper("q", q, nll.dtype, lambda q: q > 0, "positive")
    miss = -numerics.expm1(-nll)
    room = hyper("a", a - 1, nll.dtype)  # subtracted before it is rounded
    some = room > 0
    ratio = miss / jnp.where(some, room, 1)
    above = jnp.where(some, room, 1) ** q * jnp.expm1(q * jnp.log1p(ratio)) / q
    zero = miss == 0
    alone = jnp.where(zero, 0, jnp.where(zero, 1, miss) ** q / q)
    return jnp.where(some, above, alone)


def js_label_noise_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Jensen-Shannon divergence of the label and the softmax, scaled.

    Use it when you want a bounded divergence between label and prediction.

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
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``weight`` outside (0, 1).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 and
      weights of at least 0.01.

    Source: Englesson and Azizpour 2021, arXiv:2105.04522.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import js_label_noise_loss
    >>> js_label_noise_loss(jnp.float32([-80, 0]), 0)
    Array(2., dtype=float32)
    """
    check_range("weight", weight, lambda w: (w > 0) & (w < 1), "in (0, 1)")
    nll = numerics.label_nll(logits, labels, axis=axis, where=where)
    w, v = hyper("weight", weight, nll.dtype), hyper("weight", 1 - weight, nll.dtype)
    log_v = jnp.where(w < 0.5, jnp.log1p(-jnp.where(w < 0.5, w, 0)), jnp.log(v))
    nll = jnp.minimum(nll, 1e3)  # the label's probability is 0 before that
    p, miss = jnp.exp(-nll), -numerics.expm1(-nll)
    log_m = jnp.log1p(-v * miss)
    sure = nll < 0.5
    m = 1 - v * jnp.where(sure, miss, 0)
    log_ratio = jnp.where(
        sure, jnp.log1p(-w * jnp.where(sure, miss, 0) / m), -nll - log_m
    )
    return (v * (p * log_ratio - miss * log_v) - w * log_m) / (-v * log_v)


def _share(part, rest):
    """``part / (part + rest)``; 0 / 0 is 0 and ``inf`` takes all."""
    some = (part < jnp.inf) & (part + rest > 0)
    own, other = jnp.where(some, part, 0), jnp.where(some, rest, 1)
    # Differentiated, a share near 1 would lose all digits, and the other one does not.
    most = own > other
    share = jnp.where(most, other, own) / (own + other)
    return jnp.where(some, jnp.where(most, 1 - share, share), part == jnp.inf)
