"""Divergences of two distributions, given by logits and one temperature.

Each is made of the log-ratio of the two, measured where one of them is at its top: what
is common to both models, and what rounds it, leaves before anything is added up.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._log_mix import cumulants, log_mix, log_odds, log_of
from logitlab.losses.distillation._log_ratios import log_probs, log_ratio
from logitlab.losses.distillation._pairs import (
    hidden,
    is_symbolic_zero,
    move,
    scores,
)
from logitlab.numerics._special import polynomial

__all__ = [
    "cross",
    "entropy",
    "js_from_logits",
    "kl",
    "rises",
    "kl_to_mixture",
    "variation",
]


def kl(a: jax.Array, b: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Kullback-Leibler divergence of the softmaxes of two arrays of logits.

    .. math:: \mathrm{KL}(p \| q) = \sum_c p_c (e^{u_c} - 1 - u_c), \quad
        u_c = \log q_c - \log p_c

    No term is negative, and an error that all :math:`u_c` share does not matter.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import kl
    >>> kl(jnp.float32([0, -99]), jnp.zeros(2))
    Array(0.6931472, dtype=float32)
    """
    return _kl(a, b, jnp.asarray(temperature, a.dtype), False)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _kl(a, b, temperature, anchored):
    p, q, u, _, _ = log_ratio(a, b, temperature, anchored)
    return jnp.maximum(jnp.sum(numerics.terms(p, q, u), -1), 0)


def _kl_jvp(_, primals, tangents):
    # The log-ratio of the slopes serves the value too.
    anchored = not (is_symbolic_zero(tangents[0]) and is_symbolic_zero(tangents[2]))
    return _kl(*primals, anchored), _slopes(primals, tangents, 0)


_kl.defjvp(_kl_jvp, symbolic_zeros=True)  # exact, and one array instead of four


def cross(a: jax.Array, b: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Cross-entropy of a distribution q, both given by logits.

    .. math:: -\sum_c p_c \log q_c = \mathrm{KL}(p \| q) + H(p)

    with the gradient in q of the divergence.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import cross
    >>> cross(jnp.float32([0, -99]), jnp.zeros(2))
    Array(0.6931472, dtype=float32)
    """
    return _cross(a, b, jnp.asarray(temperature, a.dtype))


@jax.custom_jvp
def _cross(a, b, temperature):
    e, total = numerics.exponentials(scores(a, temperature))
    return -jnp.sum(jnp.where(e > 0, e / total * log_probs(b, temperature), 0), -1)


def _cross_jvp(primals, tangents):
    return _cross(*primals), _slopes(primals, tangents, 1)


_cross.defjvp(_cross_jvp, symbolic_zeros=True)  # exact near the teacher, as kl


def _slopes(primals, tangents, own):
    """Along a, b and T: of KL(p || q), plus ``own`` times the entropy of p."""
    a, b, temperature = primals
    da, db, dt = (None if is_symbolic_zero(t) else t for t in tangents)
    x, y = scores(a, temperature), scores(b, temperature)
    dx, dy = move(x, temperature, da, dt), move(y, temperature, db, dt)
    p, q, u, d, _ = log_ratio(a, b, temperature, dx is not None)
    along = jnp.zeros(a.shape[:-1], a.dtype)
    if dy is not None:
        up = numerics.rise(p, q, u)
        along += jnp.sum(_balanced(up, y) * dy, -1)
    if dx is not None:
        if own:
            d = d + jnp.where(x > -jnp.inf, x, 0)
        along -= _covariance(x, d, dx)
    return along


def entropy(x: jax.Array) -> jax.Array:
    """Entropy of a distribution, by its scores.

    Shapes: x [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import entropy
    >>> entropy(jnp.zeros(2))
    Array(0.6931472, dtype=float32)
    """
    p = numerics.softmax(x)
    return -jnp.sum(p * jnp.where(p > 0, numerics.log_softmax(x), 0), -1)


def js_from_logits(
    a: jax.Array,
    b: jax.Array,
    temperature: ArrayLike,
    shares: tuple[jax.Array, jax.Array],
) -> jax.Array:
    r"""Mean divergence of two distributions from their mixture.

    .. math:: v \mathrm{KL}(p \| m) + w \mathrm{KL}(q \| m), \quad m = v p + w q

    Both shares are given, for 1 minus a small one rounds.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import js_from_logits
    >>> shares = jnp.float32(0.5), jnp.float32(0.5)
    >>> js_from_logits(jnp.float32([0, 99]), jnp.float32([99, 0]), 1.0, shares)
    Array(0.6931472, dtype=float32)
    """
    return _jensen(a, b, jnp.asarray(temperature, a.dtype), *shares)


@jax.custom_jvp
def _jensen(a, b, temperature, v, w):
    # By the ratio at the top of b, where the gradient of a student needs it too.
    q, p, u, _, _ = log_ratio(b, a, temperature, True)
    return jnp.maximum(jnp.sum(_jensen_terms(q, p, u, w, v), -1), 0)


def _jensen_jvp(primals, tangents):
    a, b, temperature, v, w = primals
    along = jnp.zeros(a.shape[:-1], a.dtype)
    da, db, dt, dv, dw = (None if is_symbolic_zero(t) else t for t in tangents)
    sides = ((b, a, w, v, db), (a, b, v, w, da))
    for own, other, share, rest, tangent in sides:
        dx = move(scores(own, temperature), temperature, tangent, dt)
        if dx is not None:
            _, _, gap, _, odds, here = _at_top(own, other, temperature, share, rest)
            theirs, ours = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
            sigma, _ = log_mix(gap, theirs, ours, here)
            along -= share * _covariance(scores(own, temperature), sigma, dx)
    if dv is not None or dw is not None:
        q, p, u, _, _ = log_ratio(b, a, temperature, True)
        for tangent, side in (
            (dv, (p, q, -u, v, w)),
            (dw, (q, p, u, w, v)),
        ):
            if tangent is not None:
                far = jnp.finfo(p.dtype).max / 4  # 0 times it is 0
                along += tangent * jnp.minimum(jnp.sum(_from_mixture(*side), -1), far)
    return _jensen(*primals), along


_jensen.defjvp(_jensen_jvp, symbolic_zeros=True)  # exact: the ratio's limit is gone


def kl_to_mixture(
    a: jax.Array,
    b: jax.Array,
    temperature: ArrayLike,
    shares: tuple[jax.Array, jax.Array],
) -> jax.Array:
    r"""Divergence of p from its mixture with q.

    .. math:: \mathrm{KL}(p \| m) = \sum_c p_c (e^{r_c} - 1 - r_c), \quad
        m = v p + w q, \quad r_c = \log m_c - \log p_c

    Shapes: a [..., C], b [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import kl_to_mixture
    >>> shares = jnp.float32(0.5), jnp.float32(0.5)
    >>> kl_to_mixture(jnp.float32([0, 99]), jnp.float32([99, 0]), 1.0, shares)
    Array(0.6931472, dtype=float32)
    """
    return _to_mixture(a, b, jnp.asarray(temperature, a.dtype), *shares, False)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5,))
def _to_mixture(a, b, temperature, v, w, back):
    p, q, u = _ratio_from(back, a, b, temperature)
    return jnp.maximum(jnp.sum(_from_mixture(p, q, u, v, w), -1), 0)


def _to_mixture_jvp(_, primals, tangents):
    a, b, temperature, v, w = primals
    along = jnp.zeros(a.shape[:-1], a.dtype)
    da, db, dt, _, dw = (None if is_symbolic_zero(t) else t for t in tangents)
    dx = move(scores(a, temperature), temperature, da, dt)
    dy = move(scores(b, temperature), temperature, db, dt)
    if dx is not None:
        _, _, gap, _, odds, here = _at_top(a, b, temperature, v, w)
        ours, theirs = jax.nn.sigmoid(-odds), jax.nn.sigmoid(odds)
        sigma, mix = log_mix(gap, theirs, ours, here)
        near = jnp.abs(sigma) < 1
        small = jnp.where(near, -sigma, 0)
        close = ours * numerics.small_exp_excess(small) - theirs * small
        steep = jnp.where(near, close, sigma + ours / mix - ours)
        along -= _covariance(scores(a, temperature), steep, dx)
    if dy is not None:
        q, p, gap, at_top, odds, _ = _at_top(b, a, temperature, w, v)
        # (p / m) q less its part at the top, twice the share of q: all of it exact.
        ratio = jnp.exp(at_top)  # p / q, there
        near = jnp.abs(gap) < 1
        close = q * ratio * numerics.small_expm1(jnp.where(near, gap, 0))
        part = jnp.where(near, close, p - q * ratio)
        tiny = jnp.finfo(p.dtype).tiny
        ours = w * q + jnp.where(v == 0, tiny, 0)  # all, where p has no share
        part *= jax.nn.sigmoid(-odds) * (ours / jnp.maximum(v * p + ours, tiny))
        along -= jnp.sum(_balanced(part, scores(b, temperature)) * dy, -1)
    if dw is not None:
        p, q, u = _ratio_from(dx is None, a, b, temperature)
        up, m = numerics.rise(p, q, u), v * p + w * q
        some = m > 0
        steep = jnp.where(some, w * up / jnp.where(some, m, 1), 0)
        along += dw * jnp.sum(up * steep, -1)
    return _to_mixture(*primals, dx is None), along


_to_mixture.defjvp(_to_mixture_jvp, symbolic_zeros=True)  # exact, as of jensen


def variation(a: jax.Array, b: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Half of the sum of the absolute differences of two softmaxes.

    Shapes: a [..., C], b [..., C] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import variation
    >>> variation(jnp.float32([99, 0]), jnp.zeros(2))
    Array(0.5, dtype=float32)
    """
    return _variation(a, b, jnp.asarray(temperature, a.dtype))


@jax.custom_jvp
def _variation(a, b, temperature):
    return jnp.sum(jnp.abs(rises(a, b, temperature)), -1) / 2


def _variation_jvp(primals, tangents):
    a, b, temperature = primals
    along = jnp.zeros(a.shape[:-1], a.dtype)
    da, db, dt = (None if is_symbolic_zero(t) else t for t in tangents)
    p, q, u, _, _ = log_ratio(a, b, temperature)
    sign = jnp.sign(u - jnp.sum(numerics.rise(p, q, u), -1, keepdims=True))
    for z, dz, way in ((a, da, -1), (b, db, 1)):
        x = scores(z, temperature)
        dx = move(x, temperature, dz, dt)
        if dx is not None:
            # Only differences of signs matter: those from the top's are exact.
            _, log_total = numerics.max_and_log_sum(x)
            own = jnp.max(jnp.where(x > -0.35, sign, -1), -1, keepdims=True)
            apart = jnp.where(numerics.is_lead(x, log_total), 0, sign - own)
            along += way / 2 * _covariance(x, apart, dx)
    return _variation(*primals), along


_variation.defjvp(_variation_jvp, symbolic_zeros=True)  # exact: see within


def rises(a: jax.Array, b: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    """Probabilities q of b minus p of a; near 1 too.

    Shapes: a [..., C], b [..., C] -> [..., C]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._relative_entropy import rises
    >>> rises(jnp.float32([99, 0]), jnp.zeros(2))
    Array([-0.5,  0.5], dtype=float32)
    """
    return _rises(a, b, jnp.asarray(temperature, a.dtype))


@jax.custom_jvp
def _rises(a, b, temperature):
    p, q, u, _, _ = log_ratio(a, b, temperature)
    return _balanced(numerics.rise(p, q, u), scores(b, temperature))


def _rises_jvp(primals, tangents):
    a, b, temperature = primals
    da, db, dt = (None if is_symbolic_zero(t) else t for t in tangents)
    along = jnp.zeros_like(a)
    for z, dz, sign in ((a, da, -1), (b, db, 1)):
        x = scores(z, temperature)
        dx = move(x, temperature, dz, dt)
        if dx is not None:
            along += sign * jax.jvp(numerics.softmax, (x,), (dx,))[1]
    return _rises(*primals), along


_rises.defjvp(_rises_jvp, symbolic_zeros=True)  # exact: by both probabilities


def _balanced(up, y):
    """``up`` less its sum, spread as the softmax of scores is."""
    e, total = numerics.exponentials(y)
    # Not `q * sum`: XLA's CPU backend would store q, and twice the result.
    return up - e * (jnp.sum(up, -1, keepdims=True) / total)


def _covariance(x, d, dx):
    """Of d and dx under the softmax of scores: how the mean of d moves with them."""
    e, total = numerics.exponentials(x)
    mean = jnp.sum(e * d, -1, keepdims=True) / total
    return jnp.sum(e * (d - mean) * dx, -1) / total[..., 0]


def _ratio_from(back, a, b, temperature):
    """Probabilities and their log-ratio, from the top of a or, ``back``, of b on.

    It is the one that the slopes along a, or along b alone, take as well.
    """
    if back:
        q, p, u, _, _ = log_ratio(b, a, temperature, True)
        return p, q, hidden(b) - u
    return log_ratio(a, b, temperature, True)[:3]


def _from_mixture(p, q, u, v, w):
    """Terms of KL(p || v p + w q), with u the log of q / p."""
    r, _ = log_mix(u, w, v, u + log_odds(v, w))
    return numerics.terms(p, v * p + w * q, r)


def _jensen_terms(p, q, u, v, w):
    """Terms of v KL(p || m) + w KL(q || m), m = v p + w q, with u the log of q / p.

    They are m (u K'(u) - K(u)), with K(u) the log of m / p.
    """
    m, near = v * p + w * q, jnp.abs(u) < 0.25
    u = jnp.clip(u, jnp.finfo(u.dtype).min / 4, jnp.finfo(u.dtype).max / 4)
    small = jnp.where(near, u, 0)
    gaps = [k / (math.factorial(n) * (n + 2)) for n, k in enumerate(cumulants(v, w))]
    close = small * small * polynomial(small, gaps)
    # Measured from what makes up most of the mixture.
    most = u + log_odds(v, w) > 0
    own, other = jnp.where(most, w, v), jnp.where(most, v, w)
    size = jnp.where(most, -u, u)
    e = jnp.exp(size)
    log_m = log_of(own + other * e, other * (e - 1))
    far = jnp.where(most, v * p, w * q) * size - m * log_m
    return jnp.where(near, m * close, far)


def _at_top(own, other, temperature, share, rest):
    """Probabilities of both; their log-ratio from the top of ``own`` on, what it is
    there; the log-odds of the other one in the mixture, there and everywhere."""
    q, p, u, gap, drift = log_ratio(own, other, temperature, True)
    far = jnp.finfo(gap.dtype).max / 4
    gap, u = jnp.clip(gap, -far, far), jnp.clip(u, -far, far)
    ratio = log_odds(share, rest)
    return q, p, gap, -drift, ratio - drift, ratio + u
