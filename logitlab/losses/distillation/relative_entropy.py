"""Divergences of log-probabilities that are given as halves."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.distillation.pairs import mass_times

__all__ = ["cross", "divergence", "entropy", "signed_differences", "to_mixture"]

NOT_LOSSES = tuple(__all__)


def divergence(p: jax.Array, q: jax.Array, weight: ArrayLike = 1.0) -> jax.Array:
    r"""Kullback-Leibler divergence of two distributions, by halves of their logs.

    .. math:: \mathrm{KL}(p \| q) = \sum_c p_c (e^{u_c} - 1 - u_c), \quad
        u_c = \log q_c - \log p_c

    No term is negative, and an error that all :math:`u_c` share does not matter. Times
    a weight, within which a divergence that is too large may fit.

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> divergence(half(1, 0), half(0.5, 0.5))
    Array(0.6931472, dtype=float32)
    """
    near, u = _ratio(p, q)
    mass = weight * jnp.exp(2 * p)
    close = mass * _excess(jnp.where(near, u, 0))
    far = mass_times(mass, jnp.where(near, 0, _difference(p, q)))
    return jnp.sum(jnp.where(near, close, weight * jnp.exp(2 * q) - mass - far), -1)


def cross(p: jax.Array, q: jax.Array, weight: ArrayLike = 1.0) -> jax.Array:
    r"""Cross-entropy of a distribution q, by halves of the logs, times a weight.

    .. math:: -\sum_c p_c \log q_c = \mathrm{KL}(p \| q) + H(p)

    in this sum, whose gradient in q is exact where the two are near. The weight is one
    for all, or [..., 1].

    Shapes: p [..., C], q [..., C] -> [...]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> cross(half(1, 0), half(0.5, 0.5))
    Array(0.6931472, dtype=float32)
    """
    outer = weight[..., 0] if jnp.ndim(weight) else weight
    return divergence(p, q, weight) + outer * entropy(p)


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
    mass = jnp.exp(2 * p)
    close = mass * _excess(jnp.where(near, u, 0))
    far = mass_times(mass, jnp.where(near, 0, u / 2))
    return jnp.sum(jnp.where(near, close, jnp.exp(2 * mixed) - mass - far), -1)


def signed_differences(p: jax.Array, q: jax.Array) -> jax.Array:
    """Probabilities q minus p, by halves of their logs; near 1 too.

    Shapes: p [..., C], q [..., C] -> [..., C]

    >>> half = lambda *p: jnp.log(jnp.float32(p)) / 2
    >>> signed_differences(half(1, 0), half(0.5, 0.5))
    Array([-0.5,  0.5], dtype=float32)
    """
    near, u = _ratio(p, q)
    by_ratio = jnp.exp(2 * p) * jnp.expm1(jnp.where(near, u, 0))
    return jnp.where(near, by_ratio, jnp.exp(2 * q) - jnp.exp(2 * p))


def _ratio(p, q):
    """Where ``log q - log p`` is below 1 in size, and what it is."""
    u = 2 * _difference(p, q)
    return jnp.abs(u) < 1, u


def _difference(p, q):
    nowhere = (p == -jnp.inf) & (q == -jnp.inf)
    return jnp.where(nowhere, 0, q) - jnp.where(nowhere, 0, p)


@jax.custom_jvp
def _excess(u):
    """``exp(u) - 1 - u`` for ``|u| < 1``."""
    small = jnp.abs(u) < 0.3
    v = jnp.where(small, u, 0)
    series = jnp.ones_like(v)
    for n in range(13, 2, -1):  # v^2 / 2 (1 + v / 3 (1 + v / 4 (...)))
        series = 1 + v / n * series
    return jnp.where(small, v * v / 2 * series, jnp.expm1(u) - u)


@_excess.defjvp
def _excess_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    return _excess(u), jnp.expm1(u) * du


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
