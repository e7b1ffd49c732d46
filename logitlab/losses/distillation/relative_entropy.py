"""Divergences of distributions given by halves of their scores or their logs."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import (
    half_log_softmax,
    mass,
    mass_times,
    still,
)

__all__ = [
    "bernoulli_kl",
    "cross",
    "divergence",
    "entropy",
    "jensen",
    "kl",
    "signed_differences",
    "to_mixture",
    "variation",
]

NOT_LOSSES = tuple(__all__)


def kl(a: jax.Array, b: jax.Array, weight: ArrayLike = 1.0) -> jax.Array:
    r"""Kullback-Leibler divergence of two distributions, by their half scores.

    .. math:: \mathrm{KL}(p \| q) = \sum_c p_c (e^{u_c} - 1 - u_c), \quad
        u_c = \log q_c - \log p_c

    No term is negative, and an error that all :math:`u_c` share does not matter. Times
    a weight, within which a divergence that is too large may fit; one for all, or
    [..., 1]. What a student q costs beyond its value is one array: its gradient.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> kl(jnp.float32([0, -50]), jnp.zeros(2))
    Array(0.6931472, dtype=float32)
    """
    return _of_scores(a, b, jnp.asarray(weight, a.dtype), divergence)


def cross(a: jax.Array, b: jax.Array, weight: ArrayLike = 1.0) -> jax.Array:
    r"""Cross-entropy of a distribution q, by half scores, times a weight.

    .. math:: -\sum_c p_c \log q_c = \mathrm{KL}(p \| q) + H(p)

    with the gradient in q of the divergence.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> cross(jnp.float32([0, -50]), jnp.zeros(2))
    Array(0.6931472, dtype=float32)
    """
    return _of_scores(a, b, jnp.asarray(weight, a.dtype), _cross)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _of_scores(a, b, weight, rule):
    p, q = half_log_softmax(a), half_log_softmax(b)
    if rule is _cross:
        return -jnp.sum(mass_times(weight * mass(a), q), -1)
    return jnp.sum(_terms(p, q, mass(a), mass(b), weight), -1)


def _of_scores_jvp(rule, primals, tangents):
    # Nothing is computed along what stands still, as a teacher does.
    a, b, weight = primals
    value = _of_scores(a, b, weight, rule)
    along = jnp.zeros_like(value)
    da, db, dweight = (None if still(t) else t for t in tangents)
    if da is not None:
        q = half_log_softmax(b)
        moves = lambda a: rule(half_log_softmax(a), q, weight)  # noqa: E731
        along += jax.jvp(moves, (a,), (da,))[1]
    if db is not None:
        rise = _rise(half_log_softmax(a), half_log_softmax(b), mass(a), mass(b))
        along += jnp.sum(2 * weight * rise * db, -1)
    if dweight is not None:
        along += _outer(dweight) * _of_scores(a, b, jnp.ones_like(weight), rule)
    return value, along


_of_scores.defjvp(_of_scores_jvp, symbolic_zeros=True)


def divergence(p: jax.Array, q: jax.Array, weight: ArrayLike = 1.0) -> jax.Array:
    """``kl`` of log-probabilities, given as halves, that need not add up to one.

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> divergence(half(1, 0), half(0.5, 0.5))
    Array(0.6931472, dtype=float32)
    """
    return _divergence(p, q, jnp.asarray(weight, p.dtype))


@jax.custom_jvp
def _divergence(p, q, weight):
    return jnp.sum(_terms(p, q, jnp.exp(2 * p), jnp.exp(2 * q), weight), -1)


def _divergence_jvp(primals, tangents):
    p, q, weight = primals
    value = _divergence(p, q, weight)
    along = jnp.zeros_like(value)
    dp, dq, dweight = (None if still(t) else t for t in tangents)
    if dp is not None:
        own = weight * jnp.exp(2 * p)
        low = jnp.maximum(_difference(p, q), jnp.finfo(p.dtype).min / 4)
        along -= jnp.sum(4 * jnp.where(own > 0, own * low * dp, 0), -1)
    if dq is not None:
        along += jnp.sum(2 * weight * signed_differences(p, q) * dq, -1)
    if dweight is not None:
        along += _outer(dweight) * _divergence(p, q, jnp.ones_like(weight))
    return value, along


_divergence.defjvp(_divergence_jvp, symbolic_zeros=True)


def _cross(p, q, weight):
    return divergence(p, q, weight) + _outer(weight) * entropy(p)


def _terms(p, q, mass_p, mass_q, weight):
    near, u = _ratio(p, q)
    own = weight * mass_p
    close = own * _excess(jnp.where(near, u, 0))
    far = mass_times(own, jnp.where(near, 0, _difference(p, q)))
    return jnp.where(near, close, weight * mass_q - own - far)


def _rise(p, q, mass_p, mass_q):
    """Probabilities q minus p; near 1 too."""
    near, u = _ratio(p, q)
    u = jnp.where(near, u, 0)
    return jnp.where(near, mass_p * _expm1(u), mass_q - mass_p)


def entropy(p: jax.Array) -> jax.Array:
    """Entropy of a distribution, by halves of its logs.

    Shapes: p [..., C] -> [...]

    >>> entropy(jnp.log(jnp.float32([0.5, 0.5])) / 2)
    Array(0.6931472, dtype=float32)
    """
    return -jnp.sum(mass_times(jnp.exp(2 * p), p), -1)


def bernoulli_kl(a: jax.Array, b: jax.Array) -> jax.Array:
    """``kl`` of Bernoulli distributions by half of their logits, elementwise.

    Shapes: a [...], b [...] -> [...]

    >>> print(f"{bernoulli_kl(jnp.float32(0), jnp.float32(20)):.4f}")
    19.3069
    """
    return _bernoulli_kl(a, b)


@jax.custom_jvp
def _bernoulli_kl(a, b):
    return sum(
        _terms(p, q, jnp.exp(2 * p), jnp.exp(2 * q), 1.0)
        for p, q in (map(_half_log_sigmoid, pair) for pair in ((a, b), (-a, -b)))
    )


def _bernoulli_kl_jvp(primals, tangents):
    a, b = primals
    along = jnp.zeros_like(a)
    p, q = _half_log_sigmoid(a), _half_log_sigmoid(b)
    if not still(tangents[0]):
        slope = jnp.exp(2 * (p + _half_log_sigmoid(-a)))
        gap = jnp.where(slope > 0, _difference(b, a), 0)
        along += 4 * slope * gap * tangents[0]
    if not still(tangents[1]):
        along += 2 * signed_differences(p, q) * tangents[1]
    return _bernoulli_kl(a, b), along


_bernoulli_kl.defjvp(_bernoulli_kl_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _half_log_sigmoid(half):
    return jnp.minimum(half, 0) - jnp.log1p(jnp.exp(-2 * jnp.abs(half))) / 2


@_half_log_sigmoid.defjvp
def _half_log_sigmoid_jvp(primals, tangents):
    (half,), (dhalf,) = primals, tangents
    return _half_log_sigmoid(half), jnp.exp(2 * _half_log_sigmoid(-half)) * dhalf


def jensen(p: jax.Array, q: jax.Array, weight: ArrayLike) -> jax.Array:
    r"""Mean divergence of two distributions from their mixture, by halves of the logs.

    .. math:: (1 - w) \mathrm{KL}(p \| m) + w \mathrm{KL}(q \| m), \quad
        m = (1 - w) p + w q

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> jensen(half(1, 0), half(0, 1), 0.5)
    Array(0.6931472, dtype=float32)
    """
    return _jensen(p, q, jnp.asarray(weight, p.dtype))


@jax.custom_jvp
def _jensen(p, q, weight):
    mass_p, mass_q, m, r, s = _mixed(p, q, weight)
    own = (1 - weight) * _from_mixture(mass_p, m, r)
    return jnp.sum(own + weight * _from_mixture(mass_q, m, s), -1)


def _jensen_jvp(primals, tangents):
    p, q, weight = primals
    along = jnp.zeros(p.shape[:-1], p.dtype)
    dp, dq, dweight = (None if still(t) else t for t in tangents)
    mass_p, mass_q, m, r, s = _mixed(p, q, weight)
    sides = ((1 - weight, mass_p, r, dp), (weight, mass_q, s, dq))
    for share, mass_, ratio, dhalf in sides:
        if dhalf is not None:
            steep = mass_ * jnp.where(mass_ > 0, ratio, 0)
            along -= jnp.sum(2 * share * steep * dhalf, -1)
    if dweight is not None:
        change = _from_mixture(mass_q, m, s) - _from_mixture(mass_p, m, r)
        along += dweight * jnp.sum(change, -1)
    return _jensen(p, q, weight), along


_jensen.defjvp(_jensen_jvp, symbolic_zeros=True)


def to_mixture(p: jax.Array, q: jax.Array, weight: ArrayLike) -> jax.Array:
    r"""Divergence of p from a mixture with q, by halves of their logs.

    .. math:: \mathrm{KL}(p \| m) = \sum_c p_c (e^{r_c} - 1 - r_c), \quad
        m = (1 - w) p + w q, \quad r_c = \log m_c - \log p_c

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> to_mixture(half(1, 0), half(0, 1), 0.5)
    Array(0.6931472, dtype=float32)
    """
    return _to_mixture(p, q, jnp.asarray(weight, p.dtype))


@jax.custom_jvp
def _to_mixture(p, q, weight):
    mass_p, _, m, r, _ = _mixed(p, q, weight)
    return jnp.sum(_from_mixture(mass_p, m, r), -1)


def _to_mixture_jvp(primals, tangents):
    p, q, weight = primals
    along = jnp.zeros(p.shape[:-1], p.dtype)
    dp, dq, dweight = (None if still(t) else t for t in tangents)
    mass_p, mass_q, m, r, _ = _mixed(p, q, weight)
    rise = _rise(p, q, mass_p, mass_q)
    some = m > 0
    steep = jnp.where(some, weight * rise / jnp.where(some, m, 1), 0)  # (m - p) / m
    if dp is not None:
        own = mass_p > 0
        slope = (1 - weight) * steep - jnp.where(own, r, 0)
        along += jnp.sum(2 * jnp.where(own, mass_p * slope * dp, 0), -1)
    if dq is not None:
        along += jnp.sum(2 * weight * mass_q * steep * dq, -1)
    if dweight is not None:
        along += dweight * jnp.sum(rise * steep, -1)
    return _to_mixture(p, q, weight), along


_to_mixture.defjvp(_to_mixture_jvp, symbolic_zeros=True)


def _from_mixture(mass_p, m, r):
    near = jnp.abs(r) < 1
    close = mass_p * _excess(jnp.where(near, r, 0))
    far = mass_times(mass_p, jnp.where(near, 0, r / 2))
    return jnp.where(near, close, m - mass_p - far)


def _mixed(p, q, weight):
    """Masses of p, of q and of the mixture, and the logs of its ratios to both."""
    mass_p, mass_q = jnp.exp(2 * p), jnp.exp(2 * q)
    near, u = _ratio(p, q)
    v = jnp.where(near, u, 0)
    # Measured from the larger of the two, one of which may have no mass.
    share = jnp.where(u < 0, 1 - weight, weight)
    size = jnp.where(near, 1, jnp.abs(u))
    sum_ = share + (1 - share) * jnp.exp(-size)
    far = jnp.where(share == 0, -size, jnp.log(jnp.where(share == 0, 1, sum_)))
    r = jnp.where(near, jnp.log1p(weight * _expm1(v)), jnp.maximum(u, 0) + far)
    back = jnp.log1p((1 - weight) * _expm1(-v))
    s = jnp.where(near, back, jnp.maximum(-u, 0) + far)
    return mass_p, mass_q, (1 - weight) * mass_p + weight * mass_q, r, s


def signed_differences(p: jax.Array, q: jax.Array) -> jax.Array:
    """Probabilities q minus p, by halves of their logs; near 1 too.

    Shapes: p [..., C], q [..., C] -> [..., C]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> signed_differences(half(1, 0), half(0.5, 0.5))
    Array([-0.5,  0.5], dtype=float32)
    """
    return _rise(p, q, jnp.exp(2 * p), jnp.exp(2 * q))


@jax.custom_jvp
def variation(p: jax.Array, q: jax.Array) -> jax.Array:
    """Half of the sum of the absolute differences, by halves of the logs.

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> variation(half(1, 0), half(0.5, 0.5))
    Array(0.5, dtype=float32)
    """
    return jnp.sum(jnp.abs(signed_differences(p, q)), -1) / 2


def _variation_jvp(primals, tangents):
    p, q = primals
    sign = jnp.sign(signed_differences(p, q))
    along = jnp.zeros(p.shape[:-1], p.dtype)
    for half, dhalf, way in ((p, tangents[0], -1), (q, tangents[1], 1)):
        if not still(dhalf):
            along += jnp.sum(way * sign * jnp.exp(2 * half) * dhalf, -1)
    return variation(p, q), along


variation.defjvp(_variation_jvp, symbolic_zeros=True)


def _ratio(p, q):
    """Where ``log q - log p`` is below 1 in size, and what it is."""
    u = 2 * _difference(p, q)
    return jnp.abs(u) < 1, u


def _outer(weight):
    """A weight of classes as one of examples."""
    return weight[..., 0] if jnp.ndim(weight) else weight


def _difference(p, q):
    nowhere = (p == -jnp.inf) & (q == -jnp.inf)
    return jnp.where(nowhere, 0, q) - jnp.where(nowhere, 0, p)


def _expm1(u):
    """``exp(u) - 1`` for ``|u| < 1``."""
    return u + _excess(u)


@jax.custom_jvp
def _excess(u):
    """``exp(u) - 1 - u`` for ``|u| < 1``."""
    series = jnp.zeros_like(u)
    for n in range(18 if u.dtype == jnp.float64 else 11, 1, -1):
        series = series * u + 1 / math.factorial(n)
    return u * u * series


@_excess.defjvp
def _excess_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    excess = _excess(u)
    return excess, (u + excess) * du
