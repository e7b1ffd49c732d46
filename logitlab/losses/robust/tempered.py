"""The bi-tempered logistic loss: logarithm and exponential of other powers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._leads import below_lead
from logitlab.numerics.arguments import (
    check_range,
    distribution,
    hyper,
    is_soft,
    one_hot_mask,
)

__all__ = ["bi_tempered_logistic_loss"]


def bi_tempered_logistic_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    t1: ArrayLike = 0.8,
    t2: ArrayLike = 1.2,
    label_smoothing: ArrayLike = 0.0,
    num_iters: int | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Bi-tempered logistic loss: bounded for outliers, heavy-tailed for wrong labels.

    Use it when there are outliers far from the boundary as well as flipped labels.

    .. math:: \ell = \sum_c \Bigl[ y_c (\log_{t_1} y_c - \log_{t_1} q_c)
        - \frac{y_c^{2-t_1} - q_c^{2-t_1}}{2 - t_1} \Bigr], \quad
        q_c = \exp_{t_2}(z_c - \lambda), \; \sum_c q_c = 1

    with :math:`\log_t u = (u^{1-t} - 1)/(1-t)` and :math:`\exp_t u = [1 + (1-t)
    u]_+^{1/(1-t)}`. ``t1=t2=1`` is the cross-entropy.

    The normaliser :math:`\lambda` is exact: Newton steps kept inside a bracket, then
    implicit derivatives of every order. The released code stops after 5 fixed-point
    steps and pairs that value with the gradient of the exact one, so at its default
    our gradient is what it aims at, and our value is that of its ``num_iters=30``.
    For a value with its rounding, pass ``num_iters``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis, which gets no gradient.
      t1: power of the logarithm, in [0, 2); below 1 the loss is bounded.
      t2: power of the exponential, positive; above 1 its tails are heavy.
      label_smoothing: :math:`s`: the label keeps :math:`1 - s`, the other classes share
        the rest.
      num_iters: the released code's number of steps (fixed points for ``t2 > 1``,
        bisections below), None for the exact normaliser. A Python number, since it is
        the length of a loop. Derivatives are those of the exact normaliser at the same
        probabilities.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs what
        :math:`q_y = 0` does: finite for ``t1 < 1``.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or a
        power outside its range.

    Numerics: relative error below 1e-5, value and gradient, for integer labels without
      smoothing and margins up to 80; otherwise of the largest term of the sum. Classes
      more than 1e37 below the top (float32) count as hidden.

    Source: Amid et al. 2019, arXiv:1906.03361.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bi_tempered_logistic_loss
    >>> bi_tempered_logistic_loss(jnp.float32([2, 1, 0]), 0, t1=1.0, t2=1.0)
    Array(0.407606, dtype=float32)
    """
    check_range("t1", t1, lambda t: (t >= 0) & (t < 2), "in [0, 2)")
    check_range("t2", t2, lambda t: t > 0, "positive")
    check_range(
        "label_smoothing", label_smoothing, lambda s: (s >= 0) & (s < 1), "in [0, 1)"
    )
    if num_iters is not None:
        check_range("num_iters", num_iters, lambda n: n >= 1, "at least 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    a, e = hyper("t1", 1 - t1, z.dtype), hyper("t2", 1 - t2, z.dtype)
    smoothing = hyper("label_smoothing", label_smoothing, z.dtype)
    soft = is_soft(labels)
    if soft:
        y, known = distribution(z, labels, jnp.shape(logits), axis), True
    else:
        is_label, known = one_hot_mask(z, labels)
        y = is_label.astype(z.dtype)
    log_q, some = _log_probs(z, e, num_iters)
    power = (1 + a) * jnp.where(some, log_q, 0)
    masses = jnp.where(some, jnp.exp(power), 0) / (1 + a)
    plain = not isinstance(label_smoothing, jax.core.Tracer) and label_smoothing == 0
    if plain and not soft:
        seen = jnp.any(is_label & some, -1)
        nll = -jnp.sum(jnp.where(is_label & some, log_q, 0), -1)
        own = _label_cost(jnp.where(seen, nll, 0), a)
        unseen = jnp.where(a > 0, 1 / jnp.where(a > 0, a, 1) - 1 / (1 + a), jnp.inf)
        others = jnp.sum(jnp.where(is_label, 0, masses), -1)
        loss = jnp.where(seen, own, unseen) + others
    else:
        y = jax.lax.stop_gradient(y)
        y = _smoothed(y, z > -jnp.inf, smoothing)
        # y (log_t y - log_t q) - y^(1+a) / (1+a), with t = 1 - a
        log_y = jnp.log(jnp.where(y > 0, y, 1))
        log_unseen = jnp.where(a > 0, -1 / jnp.where(a > 0, a, 1), -jnp.inf)
        log_t_q = jnp.where(some, _log_power(jnp.where(some, log_q, 0), a), log_unseen)
        cost = y * (_log_power(log_y, a) - jnp.where(y > 0, log_t_q, 0))
        cost = cost - jnp.where(y > 0, jnp.exp((1 + a) * log_y), 0) / (1 + a)
        loss = jnp.sum(cost + masses, -1)
    loss = jnp.where(jnp.any(z > -jnp.inf, -1), loss, 0)
    return jnp.where(known, loss, jnp.nan)


def _smoothed(y, shown, smoothing):
    count = jnp.sum(shown, -1, keepdims=True).astype(y.dtype)
    share = jnp.where(count > 1, smoothing / jnp.maximum(count - 1, 1), 0)
    return jnp.where(shown, (1 - count * share) * y + share, y)


def _log_probs(z, e, num_iters):
    """Log-probabilities of the tempered softmax, and where they are not 0."""
    below, lead, shown, _ = below_lead(z)
    s = _log_total(below, shown & ~lead, e, num_iters)[..., None]
    log_e, inside = _log_exp(below * jnp.exp(e * s), e)
    return log_e - s, inside & shown


def _log_exp(u, e):
    """``log exp_t(u)`` with ``e = 1 - t``, and where it exists."""
    grown = e * u
    inside = grown > -1
    grown = jnp.where(inside, grown, 0)
    plain = e == 0
    power = jnp.log1p(grown) / jnp.where(plain, 1, e)
    return jnp.where(plain, u, power), inside


def _excess(s, below, other, e):
    """``log Z(s) - s``, whose zero normalises: ``Z`` sums ``exp_t(exp(e s) below)``."""
    log_e, inside = _log_exp(below * jnp.exp(e * s)[..., None], e)
    rest = jnp.sum(jnp.where(other & inside, jnp.exp(log_e), 0), -1)
    return jnp.log1p(rest) - s


def _slope(s, below, other, e):
    """Derivative of ``_excess`` in ``s``: negative everywhere."""
    u = below * jnp.exp(e * s)[..., None]
    log_e, inside = _log_exp(u, e)
    inside = other & inside
    x = jnp.where(inside, jnp.exp(log_e), 0)
    grown = jnp.where(inside, e * u, 0)
    return jnp.sum(x * (grown / (1 + grown)), -1) / (1 + jnp.sum(x, -1)) - 1


# Minus the log of the top class's probability, between 0 and the log of their number.
# Memory: 7 arrays of the logits' size, not 10 for each step of the iteration.
@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _log_total(below, other, e, num_iters):
    if num_iters is not None:
        return _released(below, other, e, num_iters)
    high = jnp.log1p(jnp.sum(other, -1).astype(below.dtype))
    low = jnp.zeros_like(high)

    def step(_, state):
        s, low, high = state
        excess = _excess(s, below, other, e)
        low, high = jnp.where(excess > 0, s, low), jnp.where(excess > 0, high, s)
        new = s - excess / _slope(s, below, other, e)
        return jnp.where((new > low) & (new < high), new, (low + high) / 2), low, high

    s = jax.lax.fori_loop(0, 25, step, (_excess(low, below, other, e), low, high))[0]
    # Once more around: log1p gives a small total all its digits.
    slope = _slope(s, below, other, e)
    return s - _excess(s, below, other, e) / slope


@_log_total.defjvp
def _log_total_jvp(num_iters, primals, tangents):
    below, other, e = primals
    dbelow, _, de = tangents
    s = _log_total(below, other, e, num_iters)
    _, rise = jax.jvp(
        lambda below, e: _excess(s, below, other, e), (below, e), (dbelow, de)
    )
    return s, -rise / _slope(s, below, other, e)


def _released(below, other, e, num_iters):
    """What ``num_iters`` steps of the released code make of it."""
    count = jnp.log1p(jnp.sum(other, -1).astype(below.dtype))

    def fixed_point(_, s):
        return _excess(s, below, other, e) + s

    def bisect(_, ends):
        low, high, _ = ends
        s = (low + high) / 2
        above = _excess(s, below, other, e) > 0
        return jnp.where(above, s, low), jnp.where(above, high, s), s

    zero = jnp.zeros_like(count)
    heavy = jax.lax.fori_loop(0, num_iters + 1, fixed_point, zero)
    light = jax.lax.fori_loop(0, num_iters, bisect, (zero, count, zero))[2]
    return jnp.where(e < 0, heavy, jnp.where(e > 0, light, fixed_point(0, zero)))


def _log_power(log_u, a):
    """``log_t u = (u^a - 1) / a`` with ``a = 1 - t``."""
    plain = a == 0
    return jnp.where(plain, log_u, numerics.expm1(a * log_u) / jnp.where(plain, 1, a))


def _label_cost(nll, a):
    r"""``-log_t q - (1 - q^(1+a)) / (1+a)``, the integral of ``e^(-al) (1 - e^-l)``."""
    # Two integrals that agree to first order: where they are small, term by term.
    small = nll < 0.25
    x = jnp.where(small, nll, 0)
    term, series = x, jnp.zeros_like(x)
    low, high = jnp.ones_like(a), jnp.ones_like(a)
    for n in range(2, 15):
        low, high = low * a, high * (1 + a)
        term = -term * x / n
        series = series - term * (high - low)
    x = jnp.where(small, 1, nll)
    return jnp.where(small, series, _log_power(-x, 1 + a) - _log_power(-x, a))
