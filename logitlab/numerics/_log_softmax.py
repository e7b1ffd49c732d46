"""Exact log-probabilities and probabilities of a softmax.

``logsumexp(z) - z[y]`` rounds a confident example to zero: it is 0.2 % wrong at margin
12 in float32 and nothing but rounding error from 17 on, and its gradient dies with it.
The functions here measure every score from the top one and add up only what lies below
it, so that nothing small is ever added to something large.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.numerics._checks import (
    check_labels,
    is_label,
    prepare_logits,
    take_label_logit,
)
from logitlab.numerics._special import expm1


def log_softmax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log-probabilities of a softmax, exact for the confident class too.

    Use it wherever you would write ``jax.nn.log_softmax``.

    .. math:: \log p_c = -(z_k - z_c) - \log(1 + \sum_{j \ne k} e^{z_j - z_k})

    with :math:`k` the top class. Derivatives of every order are as exact as the value,
    in forward and in reverse mode.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Log-probabilities in nats, float32 (float64 for float64 logits), ``-inf`` at
      hidden classes. Hidden classes get no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``jax.nn.log_softmax`` returns 0 for the top class from margin 17 on.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import log_softmax
    >>> log_softmax(jnp.float32([40, 0]))
    Array([-4.248354e-18, -4.000000e+01], dtype=float32)
    """
    z = prepare_logits(logits, axis=axis, where=where)
    return jnp.moveaxis(_log_softmax(z), -1, axis)


@jax.custom_jvp  # exact: the slopes of the top class, 0 in jax.nn from margin 17 on
def _log_softmax(z):
    top, log_total = max_and_log_sum(z)
    return below_top(z, top, log_total) - log_total


@_log_softmax.defjvp
def _log_softmax_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _log_softmax(z), _log_slopes(z - _finite_top(z), *_weights(z), dz)


def _log_slopes(below, e, total, dz):
    """Along dz, of the log-probabilities whose exponentials are given."""
    # A class with most of the mass moves exactly with itself. Writing that zero out
    # makes its gradient a sum over the other classes, without cancellation.
    lead = is_lead(below, log_total(e, total))
    dz = jnp.where(below == -jnp.inf, 0, dz)
    r = jnp.where(lead, 0, dz - jnp.sum(jnp.where(lead, dz, 0), -1, keepdims=True))
    # Divided after the sum: under vmap, XLA's CPU backend (jaxlib 0.10.2) gets
    # `r - sum(p * r)` wrong.
    return r - jnp.sum(e * r, -1, keepdims=True) / total


@jax.custom_jvp  # exact: p (1 - p) of the top class is not a difference
def _weights(z):
    """Exponentials measured from the top score and their sum; 1 for an empty one."""
    # The top may lie a rounding above itself, see `is_lead`; of 1e30, too much for exp.
    # The bound lies above 0, where the slope of a minimum is that of both sides.
    return _exponentials(jnp.minimum(z - _finite_top(z), jnp.finfo(z.dtype).tiny))


@jax.custom_jvp  # exact: as _weights; speed: the maximum is not taken again
def exponentials(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Exponentials of logits measured from the top one, and their sum.

    Only the quotient of the two may be differentiated. A row without classes has the
    sum 1.

    Shapes: scores [..., C] -> [..., C], [..., 1]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import exponentials
    >>> exponentials(jnp.float32([0, -jnp.inf]))[1]
    Array([1.], dtype=float32)
    """
    return _exponentials(scores)


def _exponentials(scores):
    e = jnp.exp(scores)
    return e, jnp.maximum(jnp.sum(e, -1, keepdims=True), 1)


# The derivative of the quotient, the probability, is put on the exponentials.
@_weights.defjvp
def _weights_jvp(primals, tangents):
    ((z,), (dz,)), (e, total) = (primals, tangents), _weights(*primals)
    along = _log_slopes(z - _finite_top(z), e, total, dz)
    return (e, total), (e * along, jnp.zeros_like(total))


@exponentials.defjvp
def _exponentials_jvp(primals, tangents):
    e, total = exponentials(*primals)
    along = _log_slopes(*primals, e, total, *tangents)
    return (e, total), (e * along, jnp.zeros_like(total))


def max_and_log_sum(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Largest logit, and the exact log of the sum of exponentials measured from it.

    Shapes: z [..., C] -> [..., 1], [..., 1]

    For the bodies and rules of custom derivatives; the top of a row without classes is
    0. No gradient is stopped: where a scan is differentiated twice, JAX 0.10 takes the
    derivative of such a body, and not its rule.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import max_and_log_sum
    >>> max_and_log_sum(jnp.float32([40, 0]))[1]
    Array([4.248354e-18], dtype=float32)
    """
    return _finite_top(z), log_total(*_weights(z))


def log_total(e: jax.Array, total: jax.Array) -> jax.Array:
    """Exact log of the sum of exponentials measured from the top one.

    Shapes: e [..., C], total [..., 1] -> [..., 1]

    Args:
      e: the exponentials.
      total: their sum, at least 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import exponentials, log_total
    >>> log_total(*exponentials(jnp.float32([0, -40])))
    Array([4.248354e-18], dtype=float32)
    """
    return exact_log_sum(total, jnp.sum(rest_of(e), -1, keepdims=True))


def rest_of(e: jax.Array) -> jax.Array:
    """Exponentials measured from the top score, 0 for the top and what is close to it.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import rest_of
    >>> rest_of(jnp.float32([1, 0.5]))
    Array([0. , 0.5], dtype=float32)
    """
    # Spells `where(e <= 0.5, e, 0)`, which XLA's CPU backend would store for the sum,
    # without a constant, which it would store where two sums share it.
    return e - e * jnp.round(e)


def exact_log_sum(total: jax.Array, rest: jax.Array) -> jax.Array:
    """Log of a sum of numbers up to 1, exact where a lone 1 would round the rest away.

    Shapes: total [...], rest [...] -> [...]

    Args:
      total: the sum, at least 1.
      rest: the sum of :func:`rest_of` the numbers.
    """
    # The numbers left out are one that is 1 up to rounding, or several.
    return jnp.where(total - rest < 1.25, jnp.log1p(rest), jnp.log(total))


def is_lead(below: jax.Array, log_total: jax.Array) -> jax.Array:
    """Where a class holds more than two thirds of the mass: the lone top of its row.

    A compiler may compute a logit twice, in two fusions that round differently, so no
    score need equal its own row's maximum, and no rule may rest on it. Where the rest
    of a row adds up to less than 0.49, however, every other class is at least 0.7 below
    the top: what is above the middle of that gap is the top, whatever the rounding.

    Shapes: below [..., C], log_total [..., 1] -> [..., C]

    Args:
      below: logits minus the largest one, up to rounding.
      log_total: the log of the sum of their exponentials.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import is_lead
    >>> is_lead(jnp.float32([-1e-6, -2]), jnp.float32([0.1]))
    Array([ True, False], dtype=bool)
    """
    return (below > -0.35) & (log_total < 0.4)


def is_likely(log_p: jax.Array) -> jax.Array:
    """Where a probability is above one half, so that its complement is the small one.

    Shapes: log_p [...] -> [...]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import is_likely
    >>> is_likely(jnp.log(jnp.float32([0.4, 0.6])))
    Array([False,  True], dtype=bool)
    """
    return log_p > -0.69


def below_top(z: jax.Array, top: jax.Array, log_total: jax.Array) -> jax.Array:
    """Logits minus the largest one, exactly 0 for the lone top of a row.

    Shapes: z [..., C], top [..., 1], log_total [..., 1] -> [..., C]

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import below_top
    >>> below_top(jnp.float32([3, 1]), jnp.float32([3]), jnp.float32([0.1]))
    Array([ 0., -2.], dtype=float32)
    """
    below = z - top
    return jnp.where(is_lead(below, log_total), 0, below)


def softmax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Softmax with derivatives that stay accurate for confident rows.

    .. math:: p_c = e^{z_c - z_k} / \sum_j e^{z_j - z_k}, \quad dp = p \, d\log p

    with :math:`k` the top class. ``p`` itself rounds to 1, so take what is far from 1
    from :func:`log_softmax`.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Returns:
      float32 (float64 for float64 logits), 0 at hidden classes, which get no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80; the
      slope :math:`p_k (1 - p_k)` is 0 in ``jax.nn.softmax`` from margin 17 on.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import softmax
    >>> jax.grad(lambda z: softmax(z)[0])(jnp.float32([40, 0]))
    Array([ 4.248354e-18, -4.248354e-18], dtype=float32)
    """
    z = prepare_logits(logits, axis=axis, where=where)
    return jnp.moveaxis(_softmax(z), -1, axis)


def _softmax(z):
    e, total = _weights(z)
    return e / total


def logsumexp(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log of the sum of exponentials over the classes that take part.

    .. math:: z_k + \log \sum_c e^{z_c - z_k}

    Shapes: logits [..., C], where [..., C] -> [...]

    Returns:
      float32 (float64 for float64 logits); ``-inf`` with zero gradient where every
      class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import logsumexp
    >>> logsumexp(jnp.float32([1e4, 1e4]))
    Array(10000.693, dtype=float32)
    """
    return _logsumexp(prepare_logits(logits, axis=axis, where=where))


@jax.custom_jvp  # exact: the derivative is the softmax, with its own derivative
def _logsumexp(z):
    top, log_total = max_and_log_sum(z)
    return jnp.where(_is_empty(z), -jnp.inf, top + log_total)[..., 0]


@_logsumexp.defjvp
def _logsumexp_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    # The derivative of the exponentials themselves would see a top above itself.
    return _logsumexp(z), jnp.sum(_softmax(z) * jnp.where(z == -jnp.inf, 0, dz), -1)


def label_nll(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the log-probability of an integer label, at the cost of a reduction.

    .. math:: \ell = -\log p_y = \log(1 + \sum_{c \ne y} e^{z_c - z_y})

    The same number as ``-log_softmax(logits)[labels]``, without an array of the logits'
    size. ``exp(-label_nll)`` and ``-expm1(-label_nll)`` are the label's probability and
    its complement, both exact.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Returns:
      Nats, float32 (float64 for float64 logits). A hidden label costs ``inf``, a row
      without classes 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` not
        bool.
      ValueError: wrong label shape, or a label of C or more; under ``jit``, where
        values are unknown, such a label gives NaN, never another class's number.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import label_nll
    >>> label_nll(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    z = prepare_logits(logits, axis=axis, where=where)
    y, known = check_labels(labels, z.shape[:-1], z.shape[-1])
    return jnp.where(known, _label_nll(z, y), jnp.nan)


@jax.custom_jvp  # exact: p_y - 1 without a subtraction; memory: no array of logs
@functools.partial(jax.jit, inline=True)  # speed: one program for an eager call
def _label_nll(z, y):
    top, log_total = max_and_log_sum(z)
    nll = log_total - below_top(take_label_logit(z, y)[..., None], top, log_total)
    return jnp.where(_is_empty(z), 0, nll)[..., 0]


@_label_nll.defjvp
@functools.partial(jax.jit, inline=True)
def _label_nll_jvp(primals, tangents):
    (z, y), (dz, _) = primals, tangents
    nll = _label_nll(z, y)
    # p_y - 1 is the small number that matters; it is known without a subtraction.
    shown = take_label_logit(z, y) > -jnp.inf
    own = jnp.where(shown, expm1(-nll), 0)[..., None]
    slope = jnp.where(is_label(z, y), own, _softmax(z))
    # Hidden logits may move by NaN; without reading them again, for speed.
    return nll, jnp.sum(slope * jnp.where(slope == 0, 0, dz), -1)


def _finite_top(z):
    """Row maximum, 0 where every class is hidden."""
    return jnp.where(_is_empty(z), 0, jnp.max(z, -1, keepdims=True))


def _is_empty(z):
    """Rows in which every class is hidden."""
    return jnp.max(z, -1, keepdims=True) == -jnp.inf
