"""Divergences of distributions given by halves of their scores or their logs."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import half_log_softmax, mass, mass_times

__all__ = [
    "cross",
    "divergence",
    "entropy",
    "kl",
    "signed_differences",
    "to_mixture",
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
    da, db, dweight = (None if _still(t) else t for t in tangents)
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
    dp, dq, dweight = (None if _still(t) else t for t in tangents)
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
    return jnp.where(near, mass_p * (u + _excess(u)), mass_q - mass_p)


def entropy(p: jax.Array) -> jax.Array:
    """Entropy of a distribution, by halves of its logs.

    Shapes: p [..., C] -> [...]

    >>> entropy(jnp.log(jnp.float32([0.5, 0.5])) / 2)
    Array(0.6931472, dtype=float32)
    """
    return -jnp.sum(mass_times(jnp.exp(2 * p), p), -1)


def to_mixture(p: jax.Array, q: jax.Array, weight: ArrayLike) -> jax.Array:
    """Divergence of p from ``(1 - weight) p + weight q``, by halves of their logs.

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> to_mixture(half(1, 0), half(0, 1), 0.5)
    Array(0.6931472, dtype=float32)
    """
    _, u = _ratio(p, q)
    up = u > 0
    # Measured from the larger of the two, one of which may have no mass.
    mixed = (
        jnp.where(up, q, p)
        + _log_mix(jnp.where(up, -u, u), jnp.where(up, 1 - weight, weight)) / 2
    )
    u = _log_mix(u, weight)
    near = jnp.abs(u) < 1
    own = jnp.exp(2 * p)
    close = own * _excess(jnp.where(near, u, 0))
    far = mass_times(own, jnp.where(near, 0, u / 2))
    return jnp.sum(jnp.where(near, close, jnp.exp(2 * mixed) - own - far), -1)


def signed_differences(p: jax.Array, q: jax.Array) -> jax.Array:
    """Probabilities q minus p, by halves of their logs; near 1 too.

    Shapes: p [..., C], q [..., C] -> [..., C]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> signed_differences(half(1, 0), half(0.5, 0.5))
    Array([-0.5,  0.5], dtype=float32)
    """
    return _rise(p, q, jnp.exp(2 * p), jnp.exp(2 * q))


def _ratio(p, q):
    """Where ``log q - log p`` is below 1 in size, and what it is."""
    u = 2 * _difference(p, q)
    return jnp.abs(u) < 1, u


def _still(tangent):
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _outer(weight):
    """A weight of classes as one of examples."""
    return weight[..., 0] if jnp.ndim(weight) else weight


def _difference(p, q):
    nowhere = (p == -jnp.inf) & (q == -jnp.inf)
    return jnp.where(nowhere, 0, q) - jnp.where(nowhere, 0, p)


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


@jax.custom_jvp
def _log_mix(u, weight):
    """``log(1 - weight + weight exp(u))``, exact for small and for large u."""
    near = jnp.abs(u) < 1
    close = jnp.log1p(weight * jnp.expm1(jnp.where(near, u, 0)))
    far = jnp.logaddexp(jnp.log(1 - weight), jnp.log(weight) + u)
    return jnp.where(near, close, far)


@_log_mix.defjvp
def _log_mix_jvp(primals, tangents):
    (u, weight), (du, _) = primals, tangents
    odds = u + jnp.log(weight) - jnp.log(1 - weight)
    share = jnp.where(weight == 0, 0, jnp.where(weight == 1, 1, jax.nn.sigmoid(odds)))
    return _log_mix(u, weight), share * du
