"""Links to probabilities that may be exactly 0."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics


def sparsemax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Sparsemax: the logarithm of the point of the simplex nearest to the scores.

    Use it for sparse probabilities; train with ``losses.fenchel_young_loss``.

    .. math:: \log p_c = \log \max(0, z_c - \tau), \quad
        p = \arg\min_{p \in \Delta} \|p - z\|_2

    ``entmax`` with ``alpha=2``; see there. Train it through
    ``losses.fenchel_young_loss``: in a log loss a
    probability of 0 costs ``inf``.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Log-probabilities in nats, float32 (float64 for float64 input), ``-inf`` where the
      probability is 0, which gets no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: absolute error of the probabilities below 1e-6.

    Source: Martins and Astudillo 2016, arXiv:1602.02068.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import sparsemax
    >>> jnp.exp(sparsemax(jnp.float32([1, 0.5, -1]))).round(3)
    Array([0.75000006, 0.25      , 0.        ], dtype=float32)
    """
    return entmax(logits, alpha=2.0, axis=axis, where=where)


def entmax(
    logits: ArrayLike,
    *,
    alpha: float = 1.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Entmax: the logarithm of sparse probabilities between softmax and sparsemax.

    Use it for probabilities less sparse than sparsemax's, by ``alpha``.

    .. math:: \log p_c = \tfrac{1}{\alpha - 1} \log [1 + (\alpha - 1)(z_c - \lambda)]_+,
        \quad p = \arg\max_{p \in \Delta} p \cdot z + H_\alpha(p), \quad
        H_\alpha(p) = \frac{1 - \sum_c p_c^\alpha}{\alpha (\alpha - 1)}

    with :math:`\lambda` such that the probabilities add up to 1: the log-sum-exp, in
    the limit ``alpha=1``, the softmax. It is found by bisection and closed by Newton
    steps, which for 1.5 and 2 are the closed forms on the support; nothing is sorted,
    so that the class axis may be sharded. Derivatives are those of the exact solution.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      alpha: a number of at least 1; 1 is softmax, 2 sparsemax. Not traced, for the
        softmax is another program.
      axis: the class axis.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Log-probabilities in nats, float32 (float64 for float64 input), ``-inf`` where the
      probability is 0, which gets no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, ``where`` does not broadcast, or ``alpha``
        is not a finite number of at least 1.

    Numerics: absolute error of the probabilities below 1e-6.

    Source: Peters, Niculae and Martins 2019, arXiv:1905.05702; any alpha: Correia,
      Niculae and Martins 2019, arXiv:1909.00015.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import entmax
    >>> jnp.exp(entmax(jnp.float32([2, 0, 0]))).round(3)
    Array([1., 0., 0.], dtype=float32)
    """
    if isinstance(alpha, jax.core.Tracer) or not 1 <= alpha < math.inf:
        raise ValueError(f"alpha is {alpha}, expected a finite number of at least 1")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    alpha = float(alpha)
    log_p = numerics.log_softmax(z) if alpha == 1 else _entmax(alpha, z)
    return jnp.moveaxis(log_p, -1, axis)


# Memory: 3 arrays of the logits' size, not 20 with those of the iterations.
@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _entmax(alpha, z):
    top = jnp.max(z, -1, keepdims=True)
    # The top lies 0 below itself by its place: compilers may compute it twice, and
    # round it differently.
    lead = numerics.is_label(z, jnp.argmax(z, -1).astype(jnp.int32)) & (top > -jnp.inf)
    d = jnp.where(lead, 0, jnp.minimum(z - jnp.where(top == -jnp.inf, 0, top), 0))
    return _tsallis_log_prob(alpha, d, _threshold(alpha, d, lead))


@_entmax.defjvp
def _entmax_jvp(alpha, primals, tangents):
    (z,), (dz,) = primals, tangents
    log_p = _entmax(alpha, z)
    support = log_p > -jnp.inf
    inner = jnp.where(support, log_p, 0)
    # The threshold moves with the mean of the scores under p^(2 - alpha). A class with
    # most of that mass is measured against the others, as in `numerics.log_softmax`.
    mass = jnp.where(support, jnp.exp((2 - alpha) * inner), 0)
    share = mass / jnp.maximum(jnp.sum(mass, -1, keepdims=True), jnp.finfo(z).tiny)
    lead = share > 0.5
    dz = jnp.where(support, dz, 0)
    dz -= jnp.sum(jnp.where(lead, dz, 0), -1, keepdims=True)
    dz = jnp.where(lead, 0, dz)
    moved = dz - jnp.sum(share * dz, -1, keepdims=True)
    return log_p, jnp.where(support, jnp.exp((1 - alpha) * inner) * moved, 0)


def _tsallis_log_prob(alpha, d, threshold):
    """``log(exp_alpha(d - threshold))``, ``-inf`` from the threshold's edge on."""
    t = (alpha - 1) * jnp.maximum(d - threshold, -2 / (alpha - 1))
    inside = t > -1
    return jnp.where(inside, jnp.log1p(jnp.where(inside, t, 0)) / (alpha - 1), -jnp.inf)


def _threshold(alpha, d, lead):
    """Root of the falling ``sum(p) - 1`` for scores ``d`` measured from their top."""

    def excess(x):
        # The top is counted as its distance from 1, which may be very small.
        log_p = _tsallis_log_prob(alpha, d, x)
        log_top = _tsallis_log_prob(alpha, jnp.zeros_like(x), x)
        rest = jnp.sum(jnp.where(lead, 0, jnp.exp(log_p)), -1, keepdims=True)
        return rest + jnp.expm1(log_top), log_p

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        over = excess(middle)[0] > 0
        return jnp.where(over, middle, low), jnp.where(over, high, middle)

    def newton(_, bracket):
        low, high = bracket
        over, log_p = excess(low)
        mass = jnp.where(log_p > -jnp.inf, jnp.exp((2 - alpha) * log_p), 0)
        step = over / jnp.maximum(jnp.sum(mass, -1, keepdims=True), jnp.finfo(d).tiny)
        # Selected, not clipped: at an end, a clip would pass half of the derivative,
        # which a scan that is differentiated twice takes from here, not from the rule.
        new = low + step
        return jnp.where(new < low, low, jnp.where(new > high, high, new)), high

    # The top class has at most all, at least an equal part of the probability.
    uniform = -math.expm1((1 - alpha) * math.log(d.shape[-1])) / (alpha - 1)
    low = jnp.zeros_like(d, shape=(*d.shape[:-1], 1))
    bracket = low, jnp.full_like(low, uniform)
    bracket = jax.lax.fori_loop(0, jnp.finfo(d).nmant + 6, halve, bracket)
    return jax.lax.fori_loop(0, 3, newton, bracket)[0]
